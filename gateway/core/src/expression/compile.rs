//! From source to [`Expression`]: parse, bound, and take out what reads variables.

use std::sync::Arc;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SourceInfo, operators};
use thiserror::Error;

use super::evaluate::native_name;
use super::functions::{ARITHMETIC, BOUNDED, FIRST, KNOWN, MATCHES};
use super::natives::{Native, Path};
use super::parse::{nodes, parse};
use super::pattern::Pattern;
use super::scope::Step;
use super::{Code, Expression, Tables};

/// The variables that can be used somewhere; a name may have dots (`event.data`).
#[derive(Clone, Copy, Debug)]
pub struct Names<'a>(pub &'a [&'a str]);

/// What is wrong with an expression's source.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("column {column}: {message}")]
pub struct CompileError {
    /// Counted from 1, in characters of the expression.
    pub column: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

/// CEL's type names, which are identifiers too.
const TYPES: [&str; 10] = [
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
];

pub(super) fn compile(source: &str, names: &Names<'_>, tables: &Arc<Tables>) -> Result<Expression, CompileError> {
    let program = parse(source)?;
    let mut rewriter = Rewriter {
        names,
        tables,
        source,
        info: program.source_info(),
        bound: Vec::new(),
        natives: Vec::new(),
    };
    let code = rewriter.code(program.expression())?;
    Ok(Expression {
        source: source.into(),
        code,
    })
}

/// Takes natives out of a syntax tree.
struct Rewriter<'a> {
    names: &'a Names<'a>,
    tables: &'a Arc<Tables>,
    source: &'a str,
    info: &'a SourceInfo,
    /// Variables of the macro around, if any.
    bound: Vec<String>,
    natives: Vec<Native>,
}

/// A root identifier and the constant steps below it.
struct Chain<'e> {
    root: &'e str,
    steps: Vec<Step>,
}

fn chain(expr: &IdedExpr) -> Option<Chain<'_>> {
    match &expr.expr {
        Expr::Ident(root) => Some(Chain {
            root,
            steps: Vec::new(),
        }),
        Expr::Select(select) if !select.test => {
            let mut chain = chain(&select.operand)?;
            chain.steps.push(Step::Key(select.field.clone()));
            Some(chain)
        }
        Expr::Call(call) if call.func_name == operators::INDEX && call.args.len() == 2 => {
            let step = match &call.args[1].expr {
                Expr::Literal(LiteralValue::String(key)) => Step::Key(key.inner().to_owned()),
                Expr::Literal(LiteralValue::Int(index)) => Step::Index(usize::try_from(*index.inner()).ok()?),
                _ => return None,
            };
            let mut chain = chain(&call.args[0])?;
            chain.steps.push(step);
            Some(chain)
        }
        _ => None,
    }
}

/// Where a path begins: CEL gives a selection the place of its dot.
fn leftmost(expr: &IdedExpr) -> &IdedExpr {
    match &expr.expr {
        Expr::Select(select) => leftmost(&select.operand),
        Expr::Call(call) if call.func_name == operators::INDEX => leftmost(&call.args[0]),
        _ => expr,
    }
}

impl Rewriter<'_> {
    fn error<T>(&self, at: &IdedExpr, message: impl Into<String>) -> Result<T, CompileError> {
        let column = self
            .info
            .offset_for(leftmost(at).id)
            .map_or(1, |(start, _)| start as usize + 1);
        Err(CompileError {
            column: column.clamp(1, self.source.chars().count().max(1)),
            message: message.into(),
        })
    }

    /// A whole expression: one native alone, or a CEL program with its natives.
    fn code(&mut self, expr: &IdedExpr) -> Result<Code, CompileError> {
        let ast = self.rewrite(expr)?;
        let mut natives = std::mem::take(&mut self.natives);
        let nodes = nodes(&ast);
        Ok(match &ast.expr {
            Expr::Ident(name) if natives.len() == 1 && *name == native_name(0) => Code::Native(natives.remove(0)),
            Expr::Literal(literal) => match cel::Value::try_from(literal.to_val().as_ref()) {
                Ok(value) => Code::Native(Native::Literal(value)),
                Err(_) => Code::Cel {
                    ast: Box::new(ast),
                    nodes,
                    natives,
                },
            },
            _ => Code::Cel {
                ast: Box::new(ast),
                nodes,
                natives,
            },
        })
    }

    /// An expression of its own within this one, as the arguments of `first` are.
    fn inner(&self, expr: &IdedExpr) -> Result<Expression, CompileError> {
        let mut inner = Rewriter {
            bound: Vec::new(),
            natives: Vec::new(),
            ..*self
        };
        let code = inner.code(expr).map_err(|error| {
            let used = self.bound.iter().find(|name| error.message.contains(&format!("\"{name}\"")));
            match used {
                Some(name) => CompileError {
                    message: format!("first() and tables[…] can not use {name}, the variable of a macro: write has(x.f) ? x.f : … instead"),
                    ..error
                },
                None => error,
            }
        })?;
        // CEL knows where an expression begins, not where it ends.
        let source = match &code {
            Code::Native(Native::Path(path)) => path.shown(),
            _ => "…".to_owned(),
        };
        Ok(Expression {
            source: source.into(),
            code,
        })
    }

    fn native(&mut self, at: &IdedExpr, native: Native) -> IdedExpr {
        self.natives.push(native);
        IdedExpr {
            id: at.id,
            expr: Expr::Ident(native_name(self.natives.len() - 1)),
        }
    }

    fn rewrite(&mut self, expr: &IdedExpr) -> Result<IdedExpr, CompileError> {
        if let Some(chain) = chain(expr).filter(|chain| !self.bound.iter().any(|name| name == chain.root)) {
            return self.chain(expr, chain);
        }
        let rewritten = match &expr.expr {
            Expr::Literal(_) | Expr::Ident(_) => expr.expr.clone(),
            Expr::Select(select) => {
                let whole = if select.test { chain(&select.operand) } else { None };
                if let Some(mut chain) = whole.filter(|chain| !self.bound.iter().any(|name| name == chain.root)) {
                    chain.steps.push(Step::Key(select.field.clone()));
                    let path = self.path(expr, chain)?;
                    return Ok(self.native(expr, Native::Has(path)));
                }
                let mut select = select.clone();
                *select.operand = self.rewrite(&select.operand)?;
                Expr::Select(select)
            }
            Expr::Call(call) => return self.call(expr, call),
            Expr::List(list) => {
                let mut list = list.clone();
                list.elements = list
                    .elements
                    .iter()
                    .map(|element| self.rewrite(element))
                    .collect::<Result<_, _>>()?;
                Expr::List(list)
            }
            Expr::Map(map) => {
                let mut map = map.clone();
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        entry.key = self.rewrite(&entry.key)?;
                        entry.value = self.rewrite(&entry.value)?;
                    }
                }
                Expr::Map(map)
            }
            Expr::Comprehension(comprehension) => {
                Expr::Comprehension(Box::new(self.comprehension(expr, comprehension)?))
            }
            Expr::Struct(_) | Expr::Unspecified => {
                return self.error(expr, "messages are not supported: write a map, {\"a\": 1}");
            }
        };
        Ok(IdedExpr {
            id: expr.id,
            expr: rewritten,
        })
    }

    /// A path that begins with a variable of the scope, with `tables`, or a type's name.
    fn chain(&mut self, expr: &IdedExpr, mut chain: Chain<'_>) -> Result<IdedExpr, CompileError> {
        if chain.root == "tables" {
            let literal = match (chain.steps.pop(), chain.steps.pop()) {
                (Some(Step::Key(key)), Some(Step::Key(table))) if chain.steps.is_empty() => Some((table, key)),
                _ => None,
            };
            let Some((table, key)) = literal else {
                return self.error(expr, "a table is looked up with one key: tables.name[key]");
            };
            let key = Expression {
                source: key.as_str().into(),
                code: Code::Native(Native::Literal(cel::Value::String(Arc::new(key)))),
            };
            return self.lookup(expr, &table, key);
        }
        if chain.steps.is_empty() && TYPES.contains(&chain.root) && !self.names.0.contains(&chain.root) {
            return Ok(expr.clone());
        }
        let path = self.path(expr, chain)?;
        Ok(self.native(expr, Native::Path(path)))
    }

    fn path(&self, expr: &IdedExpr, chain: Chain<'_>) -> Result<Path, CompileError> {
        let mut name = chain.root.to_owned();
        let mut found = self.names.0.contains(&name.as_str()).then(|| (name.clone(), 0));
        for (taken, step) in chain.steps.iter().enumerate() {
            let Step::Key(key) = step else { break };
            name = format!("{name}.{key}");
            if self.names.0.contains(&name.as_str()) {
                found = Some((name.clone(), taken + 1));
            }
        }
        match found {
            Some((name, taken)) => Ok(Path {
                name,
                steps: chain.steps[taken..].to_vec(),
            }),
            None => self.error(
                expr,
                format!(
                    "there is no {:?} here; there are {}",
                    chain.root,
                    self.names.0.join(", ")
                ),
            ),
        }
    }

    fn lookup(&mut self, expr: &IdedExpr, table: &str, key: Expression) -> Result<IdedExpr, CompileError> {
        if !self.tables.contains_key(table) {
            let known: Vec<_> = self.tables.keys().map(String::as_str).collect();
            return self.error(
                expr,
                format!("there is no table {table:?}; there are: {}", known.join(", ")),
            );
        }
        let native = Native::Lookup {
            tables: Arc::clone(self.tables),
            table: table.to_owned(),
            key: Box::new(key),
        };
        Ok(self.native(expr, native))
    }

    fn call(&mut self, expr: &IdedExpr, call: &CallExpr) -> Result<IdedExpr, CompileError> {
        let name = call.func_name.as_str();
        if name == FIRST && call.target.is_none() {
            if call.args.is_empty() {
                return self.error(expr, "first() needs at least one argument");
            }
            let choices = call.args.iter().map(|arg| self.inner(arg)).collect::<Result<_, _>>()?;
            return Ok(self.native(expr, Native::First(choices)));
        }
        if name == operators::INDEX
            && let Some(Chain { root: "tables", steps }) = chain(&call.args[0])
            && let [Step::Key(table)] = steps.as_slice()
        {
            let key = self.inner(&call.args[1])?;
            return self.lookup(expr, table, key);
        }
        let is_operator = operators::find_operator(name).is_some() || name.starts_with(['_', '!', '-', '@']);
        if !is_operator && !KNOWN.contains(&name) {
            return self.error(
                expr,
                format!("there is no function {name}(); there are {}", KNOWN.join(", ")),
            );
        }
        if name == "matches" {
            return self.matches(expr, call);
        }
        let mut call = call.clone();
        let appends = matches!(call.args.first().map(|arg| &arg.expr), Some(Expr::Ident(name)) if self.bound.last() == Some(name));
        if let Some((_, ours, _)) = ARITHMETIC.iter().find(|(operator, ..)| *operator == name)
            && !appends
        {
            call.func_name = (*ours).to_owned();
        }
        if let Some(target) = &mut call.target {
            **target = self.rewrite(target)?;
        }
        call.args = call
            .args
            .iter()
            .map(|arg| self.rewrite(arg))
            .collect::<Result<_, _>>()?;
        Ok(IdedExpr {
            id: expr.id,
            expr: Expr::Call(call),
        })
    }

    /// The pattern becomes a value that is there already.
    fn matches(&mut self, expr: &IdedExpr, call: &CallExpr) -> Result<IdedExpr, CompileError> {
        let args: Vec<_> = call.target.as_deref().into_iter().chain(&call.args).collect();
        let [text, pattern] = args.as_slice() else {
            return self.error(expr, "matches() takes a text and a pattern");
        };
        let Expr::Literal(LiteralValue::String(literal)) = &pattern.expr else {
            return self.error(expr, "the pattern of matches() must be a literal");
        };
        let compiled = match Pattern::compile(literal.inner()) {
            Ok(compiled) => compiled,
            Err(reason) => {
                return self.error(
                    expr,
                    format!("the pattern of matches() is no regular expression: {reason}"),
                );
            }
        };
        let text = self.rewrite(text)?;
        let pattern = self.native(pattern, Native::Literal(compiled.value()));
        Ok(IdedExpr {
            id: expr.id,
            expr: Expr::Call(CallExpr {
                func_name: MATCHES.to_owned(),
                target: None,
                args: vec![text, pattern],
            }),
        })
    }

    fn comprehension(
        &mut self,
        expr: &IdedExpr,
        comprehension: &ComprehensionExpr,
    ) -> Result<ComprehensionExpr, CompileError> {
        if !self.bound.is_empty() {
            return self.error(expr, "macros (all, exists, exists_one, map, filter) can not nest");
        }
        let mut c = comprehension.clone();
        let range = self.rewrite(&c.iter_range)?;
        // What one round takes, for `@bounded` to multiply.
        let round = nodes(&c.loop_cond) + nodes(&c.loop_step);
        let round = IdedExpr {
            id: c.iter_range.id,
            expr: Expr::Literal(LiteralValue::Int((round as i64).into())),
        };
        let bounded = CallExpr {
            func_name: BOUNDED.to_owned(),
            target: None,
            args: vec![range, round],
        };
        c.iter_range = IdedExpr {
            id: c.iter_range.id,
            expr: Expr::Call(bounded),
        };
        c.accu_init = self.rewrite(&c.accu_init)?;
        // The accumulator last: `call` leaves what CEL itself appends to it alone.
        self.bound = [Some(c.iter_var.clone()), c.iter_var2.clone(), Some(c.accu_var.clone())]
            .into_iter()
            .flatten()
            .collect();
        c.loop_cond = self.rewrite(&c.loop_cond)?;
        c.loop_step = self.rewrite(&c.loop_step)?;
        c.result = self.rewrite(&c.result)?;
        self.bound.clear();
        Ok(c)
    }
}
