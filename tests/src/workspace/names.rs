//! What a file says of names: which it defines, which it takes by `use`, which paths it mentions.
//!
//! Reads tokens, not lines: braces nest, comments and strings say nothing, macros hide nothing.
//! Never here: what a path leads to.

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};

/// Segments. The first is empty where the path begins with `::`.
pub type Path = Vec<String>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mention {
    pub path: Path,
    pub line: usize,
}

/// What one module says; a module within the file is one of its own.
#[derive(Debug, Default)]
pub struct Names {
    pub defined: BTreeSet<String>,
    /// Name here, and what it names: an alias is the key, never part of the path.
    pub taken: BTreeMap<String, Path>,
    /// Paths before a `::*`.
    pub globs: Vec<Mention>,
    /// Those in `use` lines and all others of two segments or more.
    pub mentions: Vec<Mention>,
    /// Those of `defined` that are macros.
    pub macros: BTreeSet<String>,
    /// Called without a path.
    pub calls_of_macros: Vec<Mention>,
    /// What stands at the crate's root wherever it is defined.
    pub exported_macros: Vec<String>,
    /// Every word of the code: what a glob may have brought.
    pub words: BTreeSet<String>,
    pub modules: BTreeMap<String, Names>,
}

/// Reads production code; the error says where it is no Rust.
pub fn names(code: &str) -> Result<Names, String> {
    let tokens: TokenStream = code.parse().map_err(|error| format!("{error}"))?;
    let mut names = Names::default();
    names.read(tokens, Place::Module);
    Ok(names)
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Module,
    Body,
    Attribute,
}

/// Words that may stand before a path and belong to none.
const KEYWORDS: [&str; 19] = [
    "as", "await", "break", "const", "dyn", "else", "for", "if", "impl", "in", "let", "match",
    "move", "mut", "ref", "return", "type", "where", "while",
];

impl Names {
    fn read(&mut self, tokens: TokenStream, place: Place) {
        let trees: Vec<TokenTree> = tokens.into_iter().collect();
        let mut exports = false;
        let mut at = 0;
        while at < trees.len() {
            let rest = &trees[at..];
            if let Some(length) = self.read_use(rest, place) {
                at += length;
            } else if let Some((name, body)) = inline_module(rest, place) {
                self.modules.entry(name).or_default().read(body.stream(), Place::Module);
                at += 3;
            } else if let Some((attribute, length)) = attribute(rest) {
                let tokens = attribute.stream();
                exports |= tokens.to_string() == "macro_export";
                if !begins_with(&tokens, "doc") {
                    self.read(tokens, Place::Attribute);
                }
                at += length;
            } else if let Some((path, line, length)) = path(&trees, at) {
                if place == Place::Module {
                    self.define(rest, &mut exports);
                }
                self.words.extend(path.iter().cloned());
                match path.len() {
                    1 if is_call_of_macro(&rest[length..]) => {
                        self.calls_of_macros.push(Mention { path, line })
                    }
                    1 => {}
                    _ if path[0] == "Self" => {}
                    _ => self.mentions.push(Mention { path, line }),
                }
                at += length;
            } else {
                match &trees[at] {
                    TokenTree::Group(group) => {
                        let inside = if place == Place::Attribute { place } else { Place::Body };
                        self.read(group.stream(), inside);
                    }
                    TokenTree::Literal(literal) if place == Place::Attribute => {
                        self.read_quoted(&literal.to_string(), literal.span().start().line);
                    }
                    _ => {}
                }
                at += 1;
            }
        }
    }

    /// A `use` up to its semicolon; how many trees that are.
    fn read_use(&mut self, trees: &[TokenTree], place: Place) -> Option<usize> {
        if word(trees.first()?)? != "use" || is_mark(trees.get(1), '<') {
            return None;
        }
        let end = trees.iter().position(|tree| is_mark(Some(tree), ';'))?;
        self.read_use_tree(&trees[1..end], &[], place);
        Some(end + 1)
    }

    fn read_use_tree(&mut self, trees: &[TokenTree], before: &[String], place: Place) {
        let mut path = before.to_vec();
        let mut alias = None;
        let mut line = 0;
        let mut trees = trees.iter();
        while let Some(tree) = trees.next() {
            match tree {
                TokenTree::Ident(ident) if ident == "as" => alias = trees.next().and_then(word),
                TokenTree::Ident(ident) => {
                    line = ident.span().start().line;
                    path.extend(word(tree));
                }
                TokenTree::Punct(mark) if mark.as_char() == '*' => {
                    line = mark.span().start().line;
                    self.globs.push(Mention { path, line });
                    return;
                }
                TokenTree::Punct(mark) if path.is_empty() && mark.spacing() == Spacing::Joint => {
                    path.push(String::new());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                TokenTree::Group(group) => {
                    let list: Vec<TokenTree> = group.stream().into_iter().collect();
                    for branch in list.split(|tree| is_mark(Some(tree), ',')) {
                        if !branch.is_empty() {
                            self.read_use_tree(branch, &path, place);
                        }
                    }
                    return;
                }
            }
        }
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        if let Some(name) = alias.or_else(|| path.last().cloned()) {
            if place == Place::Module {
                self.taken.insert(name, path.clone());
            } else {
                self.taken.entry(name).or_insert_with(|| path.clone());
            }
        }
        self.mentions.push(Mention { path, line });
    }

    /// What `trees` begin to define, if they do.
    fn define(&mut self, trees: &[TokenTree], exports: &mut bool) {
        const KINDS: [&str; 9] =
            ["const", "enum", "fn", "mut", "static", "struct", "trait", "type", "union"];
        const BETWEEN: [&str; 5] = ["async", "extern", "fn", "mut", "unsafe"];
        let Some(kind) = word(&trees[0]) else { return };
        if kind == "macro_rules" && is_mark(trees.get(1), '!') {
            let Some(name) = trees.get(2).and_then(word) else { return };
            if std::mem::take(exports) {
                self.exported_macros.push(name.clone());
            }
            self.macros.insert(name.clone());
            self.defined.insert(name);
        } else if KINDS.contains(&kind.as_str()) {
            let name = trees.get(1).and_then(word);
            self.defined.extend(name.filter(|name| !BETWEEN.contains(&name.as_str())));
        }
    }

    /// The path that an attribute has in quotes, as serde's do.
    fn read_quoted(&mut self, literal: &str, line: usize) {
        let Ok(tokens) = literal.trim_matches('"').parse::<TokenStream>() else { return };
        let trees: Vec<TokenTree> = tokens.into_iter().collect();
        match path(&trees, 0) {
            Some((path, _, length)) if length == trees.len() && path.len() > 1 => {
                self.mentions.push(Mention { path, line });
            }
            _ => {}
        }
    }
}

/// The path that begins at that tree: its segments, its line, how many trees it takes.
fn path(trees: &[TokenTree], at: usize) -> Option<(Path, usize, usize)> {
    let mut path = Path::new();
    let mut end = at;
    if is_separator(&trees[at..]) {
        if goes_on_from(&trees[..at]) {
            return None;
        }
        path.push(String::new());
        end += 2;
    } else if at > 1 && is_separator(&trees[at - 2..]) {
        return None;
    }
    let line = trees.get(end)?.span().start().line;
    path.push(word(trees.get(end)?)?);
    end += 1;
    let is_keyword = path.len() == 1 && KEYWORDS.contains(&path[0].as_str());
    while !is_keyword && is_separator(&trees[end..]) {
        let Some(next) = trees.get(end + 2).and_then(word) else { break };
        path.push(next);
        end += 3;
    }
    Some((path, line, end - at))
}

/// Whether a `::` after these goes on with a path: after a name, and after the end of `<…>`, not of `=>` or `->`.
fn goes_on_from(before: &[TokenTree]) -> bool {
    match before {
        [.., TokenTree::Ident(ident)] => !KEYWORDS.contains(&ident.to_string().as_str()),
        [.., TokenTree::Punct(first), last] if first.spacing() == Spacing::Joint => {
            is_mark(Some(last), '>') && !"=-".contains(first.as_char())
        }
        _ => is_mark(before.last(), '>'),
    }
}

fn is_separator(trees: &[TokenTree]) -> bool {
    let joint = |tree: &TokenTree| matches!(tree, TokenTree::Punct(mark) if mark.spacing() == Spacing::Joint);
    is_mark(trees.first(), ':') && is_mark(trees.get(1), ':') && joint(&trees[0])
}

fn is_mark(tree: Option<&TokenTree>, mark: char) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == mark)
}

fn is_call_of_macro(after_name: &[TokenTree]) -> bool {
    is_mark(after_name.first(), '!') && matches!(after_name.get(1), Some(TokenTree::Group(_)))
}

fn word(tree: &TokenTree) -> Option<String> {
    match tree {
        TokenTree::Ident(ident) => Some(ident.to_string().trim_start_matches("r#").to_owned()),
        _ => None,
    }
}

fn begins_with(tokens: &TokenStream, name: &str) -> bool {
    tokens.clone().into_iter().next().as_ref().and_then(word).is_some_and(|word| word == name)
}

fn inline_module(trees: &[TokenTree], place: Place) -> Option<(String, &Group)> {
    match trees {
        [TokenTree::Ident(kind), name, TokenTree::Group(body), ..]
            if place == Place::Module && kind == "mod" && body.delimiter() == Delimiter::Brace =>
        {
            Some((word(name)?, body))
        }
        _ => None,
    }
}

/// What stands in `#[…]` or `#![…]`, and how many trees that is.
fn attribute(trees: &[TokenTree]) -> Option<(&Group, usize)> {
    let length = if is_mark(trees.get(1), '!') { 3 } else { 2 };
    match trees.get(length - 1)? {
        TokenTree::Group(group)
            if is_mark(trees.first(), '#') && group.delimiter() == Delimiter::Bracket =>
        {
            Some((group, length))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mentioned(code: &str) -> Vec<String> {
        let names = names(code).unwrap();
        names.mentions.iter().map(|mention| mention.path.join("::")).collect()
    }

    #[test]
    fn lists_of_names_are_unfolded_however_deep() {
        let code = "pub(crate) use crate::{a::{self, B, c::{D as E, f::*}}, g};\nuse ::h::i;";
        assert_eq!(
            mentioned(code),
            ["crate::a", "crate::a::B", "crate::a::c::D", "crate::g", "::h::i"]
        );
        let names = names(code).unwrap();
        let taken: Vec<_> = names.taken.keys().collect();
        assert_eq!(taken, ["B", "E", "a", "g", "i"]);
        assert_eq!(names.taken["E"].join("::"), "crate::a::c::D");
        assert_eq!(names.globs[0].path.join("::"), "crate::a::c::f");
    }

    #[test]
    fn a_name_stands_on_the_line_where_it_is_written() {
        let names = names("//! Story.\nuse crate::a::{\n    B,\n    C,\n};\n").unwrap();
        assert_eq!(names.mentions.iter().map(|mention| mention.line).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn paths_are_found_in_code_macros_and_attributes() {
        let code = r#"
            #[serde(with = "super::a::b", default = "number")]
            struct C(crate::d::E);
            fn f() -> impl Sized + use<> {
                tell!("crate::not::this {}", super::g::<u8>(crate::h::I { j: k::L }));
                let m: ::n::N = <N as ::o::P>::q(); // crate::nor::this
                match m { O => ::q::Q, _ => return ::r::s::<T>::u() }
            }"#;
        assert_eq!(
            mentioned(code),
            [
                "super::a::b",
                "crate::d::E",
                "super::g",
                "crate::h::I",
                "k::L",
                "::n::N",
                "::o::P",
                "::q::Q",
                "::r::s"
            ]
        );
    }

    #[test]
    fn what_a_doc_says_is_no_path() {
        assert!(
            mentioned("//! [`crate::a::B`]\n/// crate::a::B\n#[doc = \"crate::a\"]\nfn c() {}")
                .is_empty()
        );
    }

    #[test]
    fn what_a_module_defines_is_known() {
        let code = "pub const fn a() { fn not() {} }\nconst B: u8 = 1;\nstatic mut C: u8 = 1;\n\
                    enum D { E }\n#[macro_export]\nmacro_rules! f { () => { $crate::g::h!() } }\n\
                    macro_rules! i { () => {} }\nmod j { struct K; }\nf!();";
        let names = names(code).unwrap();
        assert_eq!(names.defined.iter().collect::<Vec<_>>(), ["B", "C", "D", "a", "f", "i"]);
        assert_eq!(names.exported_macros, ["f"]);
        assert!(names.modules["j"].defined.contains("K"));
        assert_eq!(names.calls_of_macros[0].path, ["f"]);
        assert_eq!(names.mentions[0].path, ["crate", "g", "h"]);
    }
}
