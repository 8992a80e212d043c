//! The first step of compiling: source to syntax tree, within bounds.

use std::sync::LazyLock;

use cel::common::ast::{EntryExpr, Expr};
use cel::{Env, IdedExpr};

use super::bounds::{MAX_DEPTH, MAX_OPENERS, MAX_SOURCE};
use super::compile::CompileError;

static ENV: LazyLock<Env> = LazyLock::new(Env::stdlib);

/// Parses `source`, or refuses it before it can harm the parser.
pub(super) fn parse(source: &str) -> Result<cel::Program, CompileError> {
    if source.len() > MAX_SOURCE {
        let message = format!("it is longer than {MAX_SOURCE} bytes");
        return Err(CompileError {
            column: MAX_SOURCE + 1,
            message,
        });
    }
    if source.trim().is_empty() {
        let message = "it is empty: write an expression".to_owned();
        return Err(CompileError { column: 1, message });
    }
    if let Some((index, _)) = (source.chars().enumerate())
        .filter(|(_, c)| matches!(c, '(' | '[' | '{' | '?'))
        .nth(MAX_OPENERS)
    {
        let message = format!("it has more than {MAX_OPENERS} brackets and conditions: split it into let entries");
        return Err(CompileError {
            column: index + 1,
            message,
        });
    }
    let program = ENV.compile(source).map_err(|errors| parse_error(&errors))?;
    let depth = depth(program.expression());
    if depth > MAX_DEPTH {
        let message = format!("it nests {depth} deep, more than {MAX_DEPTH}: split it into let entries");
        return Err(CompileError { column: 1, message });
    }
    Ok(program)
}

fn parse_error(errors: &cel::ParseErrors) -> CompileError {
    let first = errors.errors.first();
    let column = first
        .and_then(|error| usize::try_from(error.pos.1).ok())
        .unwrap_or(1)
        .max(1);
    let message = first.map_or_else(|| "it is no expression".to_owned(), |error| parser_words(&error.msg));
    CompileError { column, message }
}

/// The parser's message without the list of all that could stand there.
fn parser_words(message: &str) -> String {
    if message.contains("'<EOF>'") {
        return "syntax error: it ends too early".to_owned();
    }
    let message = message.split(" expecting {").next().unwrap_or(message);
    message.replacen("Syntax", "syntax", 1)
}

/// Nodes of the syntax tree.
pub(super) fn nodes(expr: &IdedExpr) -> usize {
    let all = |exprs: &mut dyn Iterator<Item = &IdedExpr>| exprs.map(nodes).sum::<usize>();
    1 + match &expr.expr {
        Expr::Call(call) => all(&mut call.args.iter().chain(call.target.as_deref())),
        Expr::Select(select) => nodes(&select.operand),
        Expr::List(list) => all(&mut list.elements.iter()),
        Expr::Map(map) => map
            .entries
            .iter()
            .map(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => nodes(&entry.key) + nodes(&entry.value),
                EntryExpr::StructField(field) => nodes(&field.value),
            })
            .sum(),
        Expr::Comprehension(c) => {
            all(&mut [&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result].into_iter())
        }
        Expr::Struct(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => 0,
    }
}

/// Depth of the syntax tree.
fn depth(expr: &IdedExpr) -> usize {
    let deepest = |exprs: &mut dyn Iterator<Item = &IdedExpr>| exprs.map(depth).max().unwrap_or(0);
    1 + match &expr.expr {
        Expr::Call(call) => deepest(&mut call.args.iter().chain(call.target.as_deref())),
        Expr::Select(select) => depth(&select.operand),
        Expr::List(list) => deepest(&mut list.elements.iter()),
        Expr::Map(map) => map
            .entries
            .iter()
            .map(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => depth(&entry.key).max(depth(&entry.value)),
                EntryExpr::StructField(field) => depth(&field.value),
            })
            .max()
            .unwrap_or(0),
        Expr::Comprehension(c) => {
            deepest(&mut [&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result].into_iter())
        }
        Expr::Struct(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => 0,
    }
}
