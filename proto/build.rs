//! Compiles the contract with protox, in Rust alone: no protoc on any machine.

use prost::Message;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Where the messages of each package that has services are in the crate.
const PACKAGES: [(&str, &str); 6] = [
    (".troupe.v1", "crate::v1"),
    (".troupe.log.v1", "crate::log::v1"),
    (".troupe.admin.v1", "crate::admin::v1"),
    (".troupe.chaos.v1alpha1", "crate::chaos::v1alpha1"),
    (".troupe.internal.v1", "crate::internal::v1"),
    (".grpc.health.v1", "crate::health::v1"),
];

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
    println!("cargo:rerun-if-changed=grpc");
    let mut files = Vec::new();
    proto_files(Path::new("troupe"), &mut files)?;
    proto_files(Path::new("grpc"), &mut files)?;

    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files)?;
    let descriptors = compiler.file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor_set.bin"), descriptors.encode_to_vec())?;

    // Doc comments in the generated code would be read as Rust by rustdoc; the .proto files are the docs.
    if env::var_os("CARGO_FEATURE_GRPC").is_some() {
        let configure =
            || tonic_prost_build::configure().emit_rerun_if_changed(false).disable_comments(["."]);
        let servers = out.join("servers");
        fs::create_dir_all(&servers)?;
        // Servers have a codec of their own, and the messages of the clients.
        PACKAGES
            .iter()
            .fold(configure(), |builder, (package, module)| builder.extern_path(package, module))
            .build_client(false)
            .codec_path("crate::codec::ServerCodec")
            .out_dir(&servers)
            .compile_fds(descriptors.clone())?;
        configure().build_server(false).bytes(".").btree_map(".").compile_fds(descriptors)?;
    } else {
        prost_build::Config::new()
            .bytes(["."])
            .btree_map(["."])
            .disable_comments(["."])
            .compile_fds(descriptors)?;
    }
    Ok(())
}
