//! Compiles the contract with protox, in Rust alone: no protoc on any machine.

use prost::Message;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Every `.proto` below `dir`, sorted, so that the output does not depend on the file system.
fn proto_files(dir: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(|entry| entry.path());
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            proto_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=troupe");
    let mut files = Vec::new();
    proto_files(Path::new("troupe"), &mut files)?;

    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files)?;
    let descriptors = compiler.file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor_set.bin"), descriptors.encode_to_vec())?;

    // Doc comments in the generated code would be read as Rust by rustdoc; the .proto files are the docs.
    if env::var_os("CARGO_FEATURE_GRPC").is_some() {
        tonic_prost_build::configure()
            .bytes(".")
            .btree_map(".")
            .emit_rerun_if_changed(false)
            .disable_comments(["."])
            .compile_fds(descriptors)?;
    } else {
        prost_build::Config::new()
            .bytes(["."])
            .btree_map(["."])
            .disable_comments(["."])
            .compile_fds(descriptors)?;
    }
    Ok(())
}
