//! The command line tool `aldis`: its sub-commands, one module each, and the Socket.IO client they share with
//! tests and benchmarks.

pub mod args;
pub mod report;

pub mod dev;
pub mod list;
pub mod translate;
pub mod validate;

pub mod publish;
pub mod tail;
pub mod token;

pub mod cluster;
pub mod status;
pub mod why;

pub mod declared;

pub mod manual;

pub mod client;
