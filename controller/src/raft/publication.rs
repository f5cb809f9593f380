//! Where the rest of the node sees the committed image, whatever becomes of the log that it comes from.
//!
//! Promise: what is seen never goes back. A log that is filled again begins with images of long ago, in which topics
//! are missing whose partitions are here: they would be taken for deleted.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use troupe_machines::cluster::ClusterImage;

#[derive(Default)]
pub(super) struct Publication {
    told: watch::Sender<Arc<ClusterImage>>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    is_held: bool,
    newest: Option<Arc<ClusterImage>>,
}

impl Publication {
    pub fn watch(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.told.subscribe()
    }

    /// Nothing is published until [`Publication::release`].
    pub fn hold(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Held { is_held: true, newest: None };
    }

    /// What has come meanwhile is published.
    pub fn release(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.is_held = false;
        if let Some(image) = held.newest.take() {
            self.publish(image);
        }
    }

    /// Publishes it now, or when nothing is held any more.
    pub fn offer(&self, image: &ClusterImage) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let image = Arc::new(image.clone());
        match held.is_held {
            true => held.newest = Some(image),
            false => self.publish(image),
        }
    }

    fn publish(&self, image: Arc<ClusterImage>) {
        self.told.send_if_modified(|told| {
            let newer = image.next_offset() > told.next_offset();
            if newer {
                *told = image;
            }
            newer
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_never_goes_back_and_waits_while_it_is_held() {
        let founded = |records: usize| {
            let mut image = ClusterImage::default();
            let bootstrap = image.initialize("cluster").unwrap();
            for _ in 0..records {
                image.replay_all(&bootstrap.records[..1]).unwrap();
            }
            image
        };
        let publication = Publication::default();
        let seen = publication.watch();
        let seen = || seen.borrow().next_offset();
        publication.offer(&founded(3));
        let before = seen();
        publication.offer(&founded(1));
        assert_eq!(seen(), before);
        publication.hold();
        publication.offer(&founded(1));
        publication.offer(&founded(5));
        assert_eq!(seen(), before);
        publication.release();
        assert!(seen() > before);
    }
}
