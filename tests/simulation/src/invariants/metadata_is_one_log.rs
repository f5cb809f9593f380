//! I22: every voter applies the same decisions, and every broker's image was the image once.

use crate::violation::{Checked, ensure};
use troupe_machines::cluster::ClusterImage;
use troupe_proto::ids::MetadataOffset;
use troupe_proto::internal::v1::MetadataRecord;

pub fn records_are_the_same(
    base: MetadataOffset,
    known: Option<&[MetadataRecord]>,
    applied: &[MetadataRecord],
) -> Checked {
    ensure(known == Some(applied), "I22 metadata is one log", || {
        format!("applied at {base} {applied:?}, known as {known:?}")
    })
}

pub fn image_is_a_prefix(known: Option<&ClusterImage>, image: &ClusterImage) -> Checked {
    ensure(known == Some(image), "I22 images are prefixes of the log", || {
        format!("the image at {} never was", image.next_offset())
    })
}
