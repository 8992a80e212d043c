//! What keeps expressions harmless: CEL itself has no cost limit and its parser recurses.

/// Longest source of one expression or template string, in bytes. Longer left-associative chains overflow a stack.
pub const MAX_SOURCE: usize = 1024;
/// Most of `(`, `[`, `{` and `?` in a source. Nested deeper than 96, the parser gives up, and then recovers from `{` without
/// an end: a hundred braces overflow any stack and abort the process. With fewer openers it cannot get there, whatever
/// stands in strings or comments.
pub const MAX_OPENERS: usize = 80;
/// Deepest syntax tree. Evaluation recurses on a worker's 2 MiB stack.
pub const MAX_DEPTH: usize = 48;
/// Deepest nesting of a value that an evaluation calculates with: reading, comparing and dropping it recurse on a worker's
/// stack, and a producer or client chooses the depth. Values that are only passed on are not bounded.
pub const MAX_VALUE_DEPTH: usize = 64;
/// Longest list that a macro (`all`, `exists`, `map`, …) goes through.
pub const MAX_LIST: usize = 1_000;
/// What one evaluation may read, in values (a string counts one more for each 32 bytes): about a millisecond.
pub const MAX_COST: usize = 20_000;
/// Longest string or list that `+` makes, in bytes or elements.
pub const MAX_CONCATENATION: usize = 64 * 1024;
/// What all evaluations for one record, or one client event, may take together, in steps: a node of a syntax tree that is
/// evaluated, a value that is read, 32 bytes that are written. A macro takes the nodes of its body for each value of the
/// list that it goes through. Some 0.1 s at the worst that was found (docs/benchmarks.md); a usual record takes a hundred.
pub const MAX_WORK: usize = 1_000_000;
/// Largest program that the pattern of `matches()` may compile to, in bytes. 512 KiB: an address of `\w` and `@` takes half of
/// that, `[A-Z0-9]{11,30}` a hundredth, `\w{32}` four times as much.
pub const MAX_PATTERN: usize = 512 * 1024;
/// Longest text that `matches()` looks through, in bytes.
pub const MAX_MATCHED: usize = 4 * 1024;
/// Stack for compiling, in bytes: room for [`MAX_SOURCE`] of the worst nesting, with a factor of ten.
pub const COMPILE_STACK: usize = 16 * 1024 * 1024;

/// Runs `work` on a thread with a stack of [`COMPILE_STACK`] bytes and gives its result.
pub fn on_big_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("compile".to_owned())
            .stack_size(COMPILE_STACK)
            .spawn_scoped(scope, work)
            .expect("the system can start one more thread");
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
