use super::*;
use crate::workspace::without_tests;

fn arrows(files: &[(&str, &str)]) -> Arrows {
    Arrows::of(&without_tests(files))
}

/// All arrows between files, as a rule writes them.
fn lines(files: &[(&str, &str)]) -> Vec<String> {
    let arrows = arrows(files);
    arrows.arrows.iter().map(|(&ends, arrow)| arrows.line(ends, arrow)).collect()
}

#[test]
fn two_files_that_name_each_other_are_a_circle() {
    let found = arrows(&[
        ("x/src/a.rs", "//! Story.\nuse crate::b::{B, C};\npub struct A(B, C);\n"),
        ("x/src/b.rs", "pub struct B;\npub struct C;\nuse crate::a::A;\n"),
        ("x/src/c.rs", "use crate::a::A;\n"),
    ]);
    let circle = "a circle of 2 files:\n    x/src/a.rs:2 -> x/src/b.rs: B, C\n    \
                  x/src/b.rs:3 -> x/src/a.rs: A";
    assert_eq!(found.circles_between_files(), [circle]);
    assert_eq!(
        found.circles_between_folders(),
        [circle.replace("a circle of 2 files", "a circle in the crate: a, b")]
    );
}

#[test]
fn a_reexport_hides_no_circle_and_makes_none() {
    let face = ("x/src/face.rs", "mod b;\nmod c;\npub use b::B;\npub use c::{self, C as D};\n");
    let b = ("x/src/face/b.rs", "use super::D;\nuse crate::a::A;\npub struct B;\n");
    let c = ("x/src/face/c.rs", "pub struct C;\npub fn f() {}\n");
    let a = ("x/src/a.rs", "use crate::face::{self, B};\npub fn a() { face::D; face::c::f() }\n");
    assert_eq!(
        arrows(&[face, b, c, a]).circles_between_files(),
        ["a circle of 2 files:\n    x/src/face/b.rs:2 -> x/src/a.rs: A\n    \
          x/src/a.rs:1 -> x/src/face/b.rs: B"]
    );
    // An alias is called what it means, and a module that is handed on by what is taken out of it.
    assert_eq!(
        lines(&[face, b, c, a]),
        [
            "x/src/face.rs:3 -> x/src/face/b.rs: B",
            "x/src/face.rs:4 -> x/src/face/c.rs: C",
            "x/src/face/b.rs:1 -> x/src/face/c.rs: C",
            "x/src/face/b.rs:2 -> x/src/a.rs: A",
            "x/src/a.rs:1 -> x/src/face/b.rs: B",
            "x/src/a.rs:2 -> x/src/face/c.rs: C, f",
        ]
    );
}

#[test]
fn a_parent_that_defines_what_its_child_uses_is_in_a_circle_with_it() {
    let found = arrows(&[
        ("x/src/p.rs", "mod c;\nuse c::C;\npub const LIMIT: usize = 1;\n"),
        ("x/src/p/c.rs", "use super::LIMIT;\npub struct C([u8; LIMIT]);\n"),
    ]);
    let arrows = ":\n    x/src/p.rs:2 -> x/src/p/c.rs: C\n    x/src/p/c.rs:1 -> x/src/p.rs: LIMIT";
    assert_eq!(found.circles_between_files(), [format!("a circle of 2 files{arrows}")]);
    assert_eq!(found.circles_between_folders(), [format!("a circle in p: c, p.rs{arrows}")]);
}

#[test]
fn the_root_is_a_parent_too() {
    let found = arrows(&[
        ("x/src/main.rs", "mod a;\nfn main() { a::run() }\nfn block_on() {}\n"),
        ("x/src/a.rs", "pub fn run() { crate::block_on() }\n"),
    ]);
    assert_eq!(
        found.circles_between_files(),
        ["a circle of 2 files:\n    x/src/main.rs:2 -> x/src/a.rs: run\n    \
          x/src/a.rs:1 -> x/src/main.rs: block_on"]
    );
}

#[test]
fn folders_may_be_a_circle_where_their_files_are_none() {
    let found = arrows(&[
        ("x/src/t/a/one.rs", "use crate::t::b::two::Two;\npub struct One;\n"),
        ("x/src/t/a/three.rs", "pub struct Three;\n"),
        ("x/src/t/b/two.rs", "pub struct Two;\n"),
        ("x/src/t/b/four.rs", "use super::super::a::three::Three;\n"),
    ]);
    assert!(found.circles_between_files().is_empty());
    assert_eq!(
        found.circles_between_folders(),
        ["a circle in t: a, b:\n    x/src/t/a/one.rs:1 -> x/src/t/b/two.rs: Two\n    \
          x/src/t/b/four.rs:1 -> x/src/t/a/three.rs: Three"]
    );
    let with_parent = arrows(&[
        ("x/src/p.rs", "mod f;\nuse f::one::One;\npub struct P;\n"),
        ("x/src/p/f/one.rs", "pub struct One;\n"),
        ("x/src/p/f/two.rs", "use crate::p::P;\n"),
    ]);
    assert!(with_parent.circles_between_files().is_empty());
    assert_eq!(
        with_parent.circles_between_folders(),
        ["a circle in p: f, p.rs:\n    x/src/p.rs:2 -> x/src/p/f/one.rs: One\n    \
          x/src/p/f/two.rs:1 -> x/src/p.rs: P"]
    );
}

#[test]
fn an_arrow_goes_to_a_lower_floor() {
    let found = arrows(&[
        ("x/src/lib.rs", "mod a;\nmod b;\nmod c;\npub use a::A;\npub const N: u8 = 1;\n"),
        ("x/src/a.rs", "use crate::b::B;\npub struct A;\n"),
        ("x/src/b.rs", "use crate::c::C;\nuse crate::a::A;\npub struct B;\n"),
        ("x/src/c.rs", "use crate::N;\npub struct C;\n"),
    ]);
    assert_eq!(
        found.against_floors(&[&["a"], &["b", "c"]]),
        [
            "x/src/b.rs:2 -> x/src/a.rs: A (`b` is on floor 2, `a` on 1)",
            "x/src/b.rs:1 -> x/src/c.rs: C (`b` is on floor 2, `c` on 2)",
            "x/src/c.rs:1 -> x/src/lib.rs: N (the crate's root stands above all floors)",
        ]
    );
}

#[test]
fn each_module_stands_on_one_floor_and_each_floor_has_its_modules() {
    let found = arrows(&[("x/src/a.rs", ""), ("x/src/b/c.rs", "")]);
    assert!(found.against_floors(&[&["a"], &["b"]]).is_empty());
    assert_eq!(
        found.against_floors(&[&["a"], &["gone"], &["a"]]),
        [
            "`b` is a module and stands on no floor",
            "`a` stands on floors 1 and 3",
            "`gone` stands on floor 2 and is no module",
        ]
    );
}

#[test]
fn lists_self_and_aliases_lead_where_they_mean() {
    let source = "use crate::{\n    b::{\n        self as other,\n        c::{self, C as Renamed},\n    },\n    \
                  d::D,\n};\nfn a() { other::B; c::f(); self::inner::g(); }\n\
                  mod inner { pub fn g() { super::super::d::h() } }\n";
    assert_eq!(
        lines(&[
            ("x/src/a.rs", source),
            ("x/src/b.rs", "pub mod c;\npub struct B;\n"),
            ("x/src/b/c.rs", "pub struct C;\npub fn f() {}\n"),
            ("x/src/d.rs", "pub struct D;\npub fn h() {}\n"),
        ]),
        [
            "x/src/a.rs:8 -> x/src/b.rs: B",
            "x/src/a.rs:4 -> x/src/b/c.rs: C, f",
            "x/src/a.rs:6 -> x/src/d.rs: D, h"
        ]
    );
}

#[test]
fn nobody_goes_round_by_a_path_in_the_code() {
    let b = ("x/src/b.rs", "pub struct B;\npub fn f() {}\npub fn g() {}\npub fn h() {}\n");
    let source = "fn a(b: crate::b::B) {\n    tell!(\"{}\", super::b::f());\n    use super::b;\n    b::g();\n}\n\
                  #[serde(with = \"crate::b::h\")]\nstruct A;\n";
    assert_eq!(lines(&[("x/src/a.rs", source), b]), ["x/src/a.rs:1 -> x/src/b.rs: B, f, g, h"]);
}

#[test]
fn nobody_goes_round_by_a_glob() {
    let files = [
        ("x/src/p.rs", "use crate::q::Q;\npub enum P { V }\npub struct R;\n"),
        ("x/src/p/c.rs", "use super::*;\nuse super::P::*;\nstruct C(P, Q);\n"),
        ("x/src/q.rs", "pub use inner::*;\nmod inner;\n"),
        ("x/src/q/inner.rs", "pub struct Q;\n"),
    ];
    assert_eq!(
        lines(&files),
        [
            "x/src/p.rs:1 -> x/src/q/inner.rs: Q",
            "x/src/p/c.rs:1 -> x/src/p.rs: P",
            "x/src/p/c.rs:1 -> x/src/q/inner.rs: Q"
        ]
    );
}

#[test]
fn nobody_goes_round_by_a_macro() {
    let files = [
        ("x/src/lib.rs", "mod p;\nmod q;\nmod r;\n"),
        ("x/src/p.rs", "macro_rules! down { () => {} }\nmod c;\n"),
        ("x/src/p/c.rs", "fn c() { down!(); }\n"),
        ("x/src/q.rs", "#[macro_export]\nmacro_rules! up { () => { $crate::p::c::d() } }\n"),
        ("x/src/r.rs", "use crate::up;\nfn r() { up!() }\n"),
    ];
    assert_eq!(
        lines(&files),
        [
            "x/src/p/c.rs:1 -> x/src/p.rs: down",
            "x/src/q.rs:2 -> x/src/p/c.rs: d",
            "x/src/r.rs:1 -> x/src/q.rs: up"
        ]
    );
}

#[test]
fn a_function_may_be_called_as_a_module_is() {
    let files = [
        ("x/src/a.rs", "use crate::tail;\nfn tail() { tail::begin(); }\n"),
        ("x/src/tail.rs", "pub use tail::begin;\nmod tail;\n"),
        ("x/src/tail/tail.rs", "pub fn begin() {}\n"),
        ("x/src/lib.rs", "mod a;\nmod tail;\nuse anyhow::anyhow;\nfn f() { anyhow::f(); }\n"),
    ];
    assert_eq!(
        lines(&files),
        [
            "x/src/a.rs:2 -> x/src/tail/tail.rs: begin",
            "x/src/tail.rs:1 -> x/src/tail/tail.rs: begin"
        ]
    );
}

#[test]
fn names_that_lead_round_in_a_ring_end() {
    let files = [
        (
            "x/src/a.rs",
            "pub use crate::b::*;\npub use crate::b::N;\nfn f(a: M) { self::O::new() }\n",
        ),
        ("x/src/b.rs", "pub use crate::a::*;\npub use crate::a::N;\n"),
    ];
    lines(&files);
}

#[test]
fn what_only_tests_name_makes_no_arrow() {
    let files = [
        (
            "x/src/a.rs",
            "pub struct A;\n#[cfg(test)]\nuse crate::b::B;\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}\n\
             #[cfg(test)]\nmod more;\n#[cfg(test)]\n#[path = \"far.rs\"]\nmod near;\n",
        ),
        ("x/src/a/more.rs", "use crate::b::B;\n"),
        ("x/src/far.rs", "use crate::b::B;\n"),
        ("x/src/b.rs", "use crate::a::A;\npub struct B;\n"),
    ];
    assert_eq!(lines(&files), ["x/src/b.rs:1 -> x/src/a.rs: A"]);
}

#[test]
fn what_a_folder_names_is_found_however_it_is_written() {
    let found = arrows(&[
        (
            "x/src/o.rs",
            "mod p;\nuse troupe_proto::{admin::v1::A, log::v1::{L, M}};\nuse tonic::Status;\n",
        ),
        (
            "x/src/o/p.rs",
            "use crate::lines::Far;\nuse troupe_proto as proto;\nfn p() -> ::http::Uri { proto::v1::f() }\n\
             fn q() { prost_types::g(); crate::grpc::h() }\n",
        ),
        ("x/src/lines.rs", "pub use hyper::Far;\n"),
        ("x/src/grpc.rs", "pub use crate::lines::Far as h;\n"),
        ("x/src/other.rs", "use tonic::Status;\n"),
    ]);
    let words = [
        "tonic",
        "http",
        "hyper",
        "prost",
        "troupe_proto::v1",
        "troupe_proto::admin",
        "crate::grpc",
    ];
    assert_eq!(
        found.what_names("x/src/o", &words),
        [
            "x/src/o.rs:2 -> troupe_proto::admin::v1::A",
            "x/src/o.rs:3 -> tonic::Status",
            "x/src/o/p.rs:1 -> hyper::Far",
            "x/src/o/p.rs:3 -> http::Uri",
            "x/src/o/p.rs:3 -> troupe_proto::v1::f",
            "x/src/o/p.rs:4 -> crate::grpc::h",
            "x/src/o/p.rs:4 -> hyper::Far",
            "x/src/o/p.rs:4 -> prost_types::g"
        ]
    );
    assert!(found.what_names("x/src/o", &["troupe_proto::v2", "ton", "serde"]).is_empty());
    let glob = arrows(&[("x/src/o.rs", "use troupe_proto::*;\nuse std::fmt::*;\n")]);
    assert_eq!(glob.what_names("x/src/o", &words), ["x/src/o.rs:1 -> troupe_proto::*"]);
    assert_eq!(found.what_names("x/src/z", &[]), ["x/src/z is not where the rule expects it"]);
}
