//! What the parser lets pass and go-yaml does not: tabs as indentation, and some characters within brackets.

use saphyr_parser::{Event, ScalarStyle, Span};

/// Watches the events of a document.
pub(super) struct Strict<'text> {
    text: &'text str,
    /// The text behind the character at `index`, where the last flow collection was looked for.
    behind: std::str::Chars<'text>,
    index: usize,
    /// Of every open collection: whether it is in brackets, and its first line.
    open: Vec<(bool, usize)>,
    /// Line and column of the last `{`.
    brace: (usize, usize),
    /// How far the last events are `{`, a plain word and `}`, which is what a template without quotes looks like.
    bare: Bare,
    /// First and last line of what may begin lines with tabs: quoted and block scalars, collections in brackets.
    free: Vec<(usize, usize)>,
}

/// See [`Strict::bare`].
#[derive(Clone, Copy, PartialEq)]
enum Bare {
    No,
    Brace,
    Word,
    /// A value that is not written, before the character with this index.
    Nothing(usize),
}

/// `{now}` without quotes.
const BARE_TEMPLATE: &str =
    "without quotes this is no template, but a mapping with a key and no value; put it in quotes";
/// `{a: b?c}`, or `[>]`.
const UNREADABLE: &str = "kubectl does not read this text within brackets; put it in quotes";

impl<'text> Strict<'text> {
    pub(super) fn new(text: &'text str) -> Self {
        Self {
            text,
            behind: text.chars(),
            index: 0,
            open: Vec::new(),
            brace: (1, 1),
            bare: Bare::No,
            free: Vec::new(),
        }
    }

    /// Takes an event in; where something is wrong with it (line and column, from 1) and what, if anything.
    pub(super) fn event(&mut self, event: &Event<'_>, span: Span) -> Option<(usize, usize, &'static str)> {
        let in_brackets = self.open.last().is_some_and(|(brackets, _)| *brackets);
        let place = (span.start.line(), span.start.col() + 1);
        let bare = std::mem::replace(&mut self.bare, Bare::No);
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                let before = self.before(span.end.index());
                self.open
                    .push((in_brackets || matches!(before, Some('[' | '{')), span.start.line()));
                if before == Some('{') {
                    self.bare = Bare::Brace;
                    self.brace = place;
                }
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some((true, first)) = self.open.pop() {
                    self.free.push((first + 1, span.end.line()));
                }
                return (bare == Bare::Nothing(span.start.index())).then_some((
                    self.brace.0,
                    self.brace.1,
                    BARE_TEMPLATE,
                ));
            }
            Event::Scalar(text, ScalarStyle::Plain, ..) if in_brackets => {
                self.bare = match bare {
                    Bare::Brace if !text.is_empty() => Bare::Word,
                    Bare::Word if text.is_empty() => Bare::Nothing(span.start.index()),
                    _ => Bare::No,
                };
                if text.contains('?') || text.starts_with(['>', '|', '`', '@', '%']) {
                    return Some((place.0, place.1, UNREADABLE));
                }
            }
            Event::Scalar(_, style, ..) if *style != ScalarStyle::Plain => {
                let last = if span.end.col() == 0 {
                    span.end.line().saturating_sub(1)
                } else {
                    span.end.line()
                };
                self.free.push((span.start.line() + 1, last));
            }
            _ => {}
        }
        None
    }

    /// The lines that are indented with a tab, from 1, each with the tab's column, from 1.
    pub(super) fn tabs(mut self) -> Vec<(usize, usize)> {
        self.free.sort_unstable();
        let mut free = self.free.into_iter().peekable();
        let mut free_until = 0;
        let mut tabs = Vec::new();
        for (number, line) in (1..).zip(self.text.lines()) {
            while let Some((_, last)) = free.next_if(|(first, _)| *first <= number) {
                free_until = free_until.max(last);
            }
            let indentation = line.bytes().take_while(|byte| matches!(byte, b' ' | b'\t'));
            if let Some(spaces) = indentation
                .into_iter()
                .position(|byte| byte == b'\t')
                .filter(|_| number > free_until)
            {
                tabs.push((number, spaces + 1));
            }
        }
        tabs
    }

    /// The character before the one at `index`. Events come in the order of the text, and so the whole text is walked once.
    fn before(&mut self, index: usize) -> Option<char> {
        let steps = index.checked_sub(self.index + 1)?;
        self.index = index;
        self.behind.nth(steps)
    }
}
