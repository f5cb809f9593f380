//! Every method of the contract, as its descriptors have it.

use std::collections::HashMap;
use std::sync::LazyLock;
use troupe_proto::FILE_DESCRIPTOR_SET;

#[derive(Debug)]
pub struct MethodInfo {
    /// With its package.
    pub service: String,
    pub name: String,
    /// Requests are a stream.
    pub streams_requests: bool,
    /// Answers are a stream.
    pub streams_answers: bool,
}

/// By path: `/package.Service/Method`.
pub static METHODS: LazyLock<HashMap<String, MethodInfo>> = LazyLock::new(|| {
    let set: prost_types::FileDescriptorSet =
        prost::Message::decode(FILE_DESCRIPTOR_SET).expect("the build made it");
    let mut methods = HashMap::new();
    for file in &set.file {
        for service in &file.service {
            let full = format!("{}.{}", file.package(), service.name());
            for method in &service.method {
                let info = MethodInfo {
                    service: full.clone(),
                    name: method.name().to_owned(),
                    streams_requests: method.client_streaming(),
                    streams_answers: method.server_streaming(),
                };
                methods.insert(format!("/{full}/{}", method.name()), info);
            }
        }
    }
    methods
});
