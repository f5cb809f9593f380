//! A batch on its way into the log of a leader, once the machine has decided about it, whoever wrote it.

use crate::broker::Asker;
use crate::violation::Checked;
use crate::world::{At, World};
use bytes::Bytes;
use troupe_log::LogError;
use troupe_machines::config::FlushPolicy;
use troupe_machines::replica::{Effects, Replica, Token};
use troupe_machines::time::Time;
use troupe_proto::batch::BatchHeader;
use troupe_proto::rope::Rope;

impl World {
    /// The batch stands in the log afterwards, and the machine is told; or the disk has failed, which it is not told yet.
    pub fn append_decided(
        &mut self,
        at: At,
        (token, asker): (Token, Asker),
        header: &BatchHeader,
        payload: Bytes,
        tell: impl FnOnce(&mut Replica, Time, &mut Effects),
    ) -> Checked<Result<(), LogError>> {
        let (steady, wall) = (self.steady(at.0), self.wall(at.0).as_timestamp());
        let Some(host) = self.host(at) else { return Ok(Ok(())) };
        let mut rope = Rope::new();
        rope.push(payload);
        let appended = match host.log.append(header, &rope, wall) {
            Ok(appended) => appended,
            Err(error) => {
                host.watched.attempted = vec![*header];
                return Ok(Err(error));
            }
        };
        host.waiting.insert(token, asker);
        host.watched.written.push(*header);
        self.appended(at, header)?;
        if let Some(offset) = appended.rolled {
            self.snapshot_producers(at, offset);
            if self.settings.flush_policy == FlushPolicy::Os {
                self.start_flush(at)?;
            }
        }
        let mut out = Effects::new();
        let Some(host) = self.host(at) else { return Ok(Ok(())) };
        tell(&mut host.replica, steady, &mut out);
        self.perform(at, out)?;
        self.settle_host(at)?;
        Ok(Ok(()))
    }
}
