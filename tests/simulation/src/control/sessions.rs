//! Who is there: brokers say so from time to time, and are fenced when they do not.

use super::{Answer, MOST_RECORDS, Reply, SESSION_TIMEOUT_MS};
use crate::truth::News;
use crate::violation::Checked;
use crate::world::World;
use troupe_machines::cluster::ClusterImage;
use troupe_proto::ids::{BrokerEpoch, MetadataOffset, NodeId};

impl World {
    pub(super) fn heartbeat(
        &mut self,
        site: usize,
        tip: &ClusterImage,
        (to, life, id): (usize, u64, u64),
        (node, epoch, applied): (NodeId, BrokerEpoch, MetadataOffset),
    ) -> Checked {
        let Some(broker) = tip.broker(node).filter(|broker| broker.epoch == epoch) else {
            self.reply(site, Reply { to, life, id, answer: Answer::StaleEpoch });
            return Ok(());
        };
        if let Some(active) = &mut self.sites[site].active {
            active.heard.insert(node, self.now);
        }
        let caught_up = applied.0 > epoch.0;
        if broker.fenced
            && caught_up
            && !broker.shutting_down
            && let Ok(decision) = tip.unfence_broker(node, epoch)
        {
            self.trace.note(self.now, "unfence", [node.0 as u64, 0, 0, 0]);
            self.decide(site, decision)?;
        }
        let news = self.news_since(site, applied);
        self.reply(site, Reply { to, life, id, answer: Answer::Heard(news) });
        Ok(())
    }

    fn news_since(&mut self, site: usize, applied: MetadataOffset) -> Option<News> {
        let image = &self.sites[site].voter.as_ref()?.image;
        let end = image.next_offset();
        if end <= applied {
            return None;
        }
        if end.0 - applied.0 > MOST_RECORDS {
            self.counts.metadata_snapshots += 1;
            return Some(News::Snapshot(image.snapshot()));
        }
        Some(News::Records { from: applied, records: self.truth.records(applied, end) })
    }

    /// Fences who has been silent for too long, and makes the topic once everybody is there.
    pub(super) fn keep_sessions(&mut self, site: usize) -> Checked {
        let Some(tip) = self.tip(site) else { return Ok(()) };
        let now = self.now;
        let silent: Vec<_> = {
            let Some(active) = &self.sites[site].active else { return Ok(()) };
            let last = |node: NodeId| active.heard.get(&node).copied().unwrap_or(0);
            tip.brokers()
                .filter(|broker| !broker.fenced)
                .filter(|broker| now >= last(broker.node_id) + SESSION_TIMEOUT_MS)
                .map(|broker| (broker.node_id, broker.epoch))
                .collect()
        };
        for (node, epoch) in silent {
            self.fence(site, node, epoch)?;
        }
        self.create_topic(site, &tip)
    }

    fn fence(&mut self, site: usize, node: NodeId, epoch: BrokerEpoch) -> Checked {
        let Some(tip) = self.tip(site) else { return Ok(()) };
        if let Ok(decision) = tip.fence_broker(node, epoch, None) {
            self.trace.note(self.now, "fence", [site as u64, node.0 as u64, 0, 0]);
            self.decide(site, decision)?;
        }
        Ok(())
    }

    /// Nobody listens where a broker was: its process is gone.
    pub fn connection_refused(
        &mut self,
        site: usize,
        node: NodeId,
        incarnation: [u8; 16],
    ) -> Checked {
        let Some(tip) = self.tip(site) else { return Ok(()) };
        let Some(broker) = tip.broker(node) else { return Ok(()) };
        if broker.incarnation != incarnation {
            return Ok(());
        }
        if let Some(active) = &mut self.sites[site].active {
            active.heard.insert(node, 0);
        }
        self.fence(site, node, broker.epoch)
    }
}
