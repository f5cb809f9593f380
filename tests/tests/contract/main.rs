//! The contract with clients in other languages: its names, what may not change, and what every error says.
//!
//! A change that is meant to stay is put on record with
//! `TROUPE_BLESS=1 cargo test -p troupe-tests --test contract`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod breaking;
mod errors;
mod naming;

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// The files of the contract as this build serves them by reflection.
fn contract() -> Vec<FileDescriptorProto> {
    files_of(troupe_proto::FILE_DESCRIPTOR_SET)
}

/// Our own files of a serialised set, without comments, sorted by name.
fn files_of(set: &[u8]) -> Vec<FileDescriptorProto> {
    let mut files = FileDescriptorSet::decode(set).unwrap().file;
    files.retain(|file| file.name().starts_with("troupe/"));
    files.sort_by(|a, b| a.name().cmp(b.name()));
    for file in &mut files {
        file.source_code_info = None;
    }
    files
}

/// Compiles `text` as the file `path`; with it everything it imports from the contract.
fn compile(path: &str, text: &str) -> Vec<FileDescriptorProto> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, text).unwrap();
    let mut compiler = protox::Compiler::new([dir.path()]).unwrap();
    compiler.include_imports(true).open_file(&file).unwrap();
    compiler.file_descriptor_set().file
}
