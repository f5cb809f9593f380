//! What was flushed goes bad on a disk, while its replica runs or is stopped. Nobody is told: that is for others to find.
//!
//! Either one copy at a time, and never the last whole one of those that are in sync or eligible: then nothing may be
//! lost at all. Or any of them: then what no replica has that was in sync may be, and nothing else.

use crate::chance::Chance;
use crate::settings::{Bug, HostBug, Settings};
use crate::violation::Checked;
use crate::world::{At, Event, World};
use std::ops::Range;
use std::path::PathBuf;
use troupe_log::check_batches;
use troupe_log::disk::{FaultDisk, MemDisk};
use troupe_machines::config::FlushPolicy;
use troupe_machines::replica::planted::Bug as MachineBug;
use troupe_proto::batch::{BatchHeader, OVERHEAD};
use troupe_proto::ids::{NodeId, Offset, PartitionKey};

/// As much as goes bad at once.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
pub struct Decay {
    interval_ms: u64,
    /// No disk is replaced by an empty one: as long as that may have been, nothing goes bad.
    pub keeps_disks: bool,
    /// Of any copy, also of the last.
    pub takes_all: bool,
}

impl Decay {
    /// Of a seed's own chance, as compaction is drawn. Half of the runs have some.
    pub fn draw(seed: u64, settings: &mut Settings) -> Option<Decay> {
        let mut chance = Chance::new(seed ^ 0x0DEC_A1ED);
        let of_repair = matches!(
            settings.bug,
            Some(
                Bug::Machine(MachineBug::IgnoreDamage | MachineBug::FillFromOldEnd)
                    | Bug::Host(HostBug::KeepStreamsOfDamaged)
            )
        );
        let decays = chance.one_in(2) && settings.bug.is_none() || of_repair;
        if !decays {
            return None;
        }
        if of_repair {
            settings.min_insync_replicas = 2;
            settings.flush_policy = FlushPolicy::Commit;
        }
        let keeps_disks = chance.one_in(2) || of_repair;
        let promised = settings.min_insync_replicas >= 2
            && settings.flush_policy == FlushPolicy::Commit
            && !settings.unclean;
        let interval_ms = chance.between(100, 1_500);
        let takes_all = chance.one_in(4) && !of_repair || !promised;
        Some(Decay { interval_ms, keeps_disks, takes_all })
    }
}

/// A batch in its file.
struct Place {
    path: PathBuf,
    position: usize,
    len: usize,
    /// As far as the file is good for sure, and as far as it may become zeros. The last batch of a segment that is not
    /// closed, or of which nothing behind is flushed, does not: when what says how far the log was flushed is lost with the
    /// power, nobody can tell it from what was never written.
    end: usize,
    zeros_to: usize,
    /// Of those that are flushed, the last in the newest file: what stands there may be taken for the torn end of a
    /// write once something was written behind it that was torn.
    is_last: bool,
}

impl World {
    pub fn decay(&mut self) -> Checked {
        let Some(decay) = self.settings.decay.clone().filter(|_| !self.healing) else {
            return Ok(());
        };
        let wait = 1 + self.rot.below(2 * decay.interval_ms);
        self.schedule_free(wait, Event::Decay);
        self.decay_once(decay.takes_all);
        Ok(())
    }

    /// Beside something else.
    pub fn decay_now(&mut self) {
        if let Some(decay) = self.settings.decay.clone() {
            self.decay_once(decay.takes_all);
        }
    }

    fn decay_once(&mut self, takes_all: bool) {
        let places: Vec<At> = (0..self.settings.brokers)
            .flat_map(|site| self.sites[site].disks.keys().map(move |key| (site, *key)))
            .collect();
        if let Some(at) = self.rot.pick(&places)
            && self.may_decay(at, takes_all)
        {
            self.strike_disk(at);
        }
    }

    fn may_decay(&mut self, at: At, takes_all: bool) -> bool {
        self.look_at_files(at);
        let Some(partition) = self.truth.partition(&at.1) else { return false };
        let lacks = |node: &NodeId| {
            let site = &self.sites[self.site_of(*node)];
            site.decayed.contains(&at.1) || site.damaged.contains_key(&at.1)
        };
        let node = self.sites[at.0].node.unwrap_or_default();
        if self.sites.iter().any(|site| site.wiped) || lacks(&node) {
            return false;
        }
        // who has nothing on its disk yet counts for one whose disk was replaced when it is back
        let holds = |other: NodeId| {
            let flushed = self.flushed((self.site_of(other), at.1));
            flushed.is_some_and(|range| range.end > Offset::ZERO)
        };
        let mut has_all = partition.isr.iter().chain(&partition.elr);
        takes_all
            || has_all.any(|other| *other != node && holds(*other))
                && !partition.replicas.iter().any(lacks)
    }

    fn strike_disk(&mut self, at: At) {
        let Some(flushed) = self.flushed(at) else { return };
        let Some(disk) = self.sites[at.0].disks.get(&at.1).filter(|disk| !disk.has_crashed())
        else {
            return;
        };
        let disk = disk.memory().clone();
        let is_open = self.see_host(at).is_some();
        let mut places = places(&disk, &at.1, &flushed);
        places.retain(|place| !(is_open && place.is_last));
        if places.is_empty() {
            return;
        }
        let place = places.swap_remove(self.rot.index(places.len()));
        let within = self.rot.index(place.len);
        let position = place.position + within;
        let mask = match self.rot.index(3) {
            0 => vec![1 << self.rot.below(8)],
            1 if position < place.zeros_to => {
                let files = disk.files();
                let content = files.get(&place.path).map_or(&[][..], Vec::as_slice);
                let longest = (place.zeros_to - position).min(SECTOR);
                let len = 1 + self.rot.index(longest);
                content[position..position + len].to_vec()
            }
            _ => {
                let len = 1 + self.rot.index(16.min(place.end - position));
                (0..len).map(|_| 1 + self.rot.below(255) as u8).collect()
            }
        };
        if mask.iter().all(|bits| *bits == 0) {
            return;
        }
        disk.decay(&place.path, position as u64, &mask);
        self.note_decay(at, place.is_last);
    }

    fn note_decay(&mut self, at: At, is_last: bool) {
        let leader = self.truth.partition(&at.1).and_then(|partition| partition.leader);
        let leads = leader.is_some() && leader == self.sites[at.0].node;
        let is_up = self.see_host(at).is_some();
        let all_down = (0..self.settings.brokers).all(|site| !self.sites[site].up);
        self.counts.decays += 1;
        self.counts.decays_of_leaders += u64::from(is_up && leads);
        self.counts.decays_of_followers += u64::from(is_up && !leads);
        self.counts.decays_while_stopped += u64::from(!is_up);
        self.counts.decays_while_all_are_down += u64::from(all_down);
        self.counts.decays_of_a_logs_end += u64::from(is_last);
        let facts = [at.0 as u64, at.1.partition.0.into(), u64::from(leads), u64::from(is_up)];
        self.trace.note(self.now, "decay", facts);
        self.sites[at.0].decayed.insert(at.1);
        self.sites[at.0].had_decayed.insert(at.1);
    }

    /// With the power, that something was cut off or removed is lost, and it may be there again.
    pub fn may_be_back(&mut self, at: At) {
        if self.sites[at.0].had_decayed.contains(&at.1) {
            self.sites[at.0].decayed.insert(at.1);
        }
    }

    /// Whether all that can be read of it is what was written.
    pub fn is_readable(&self, at: At) -> bool {
        let Some(host) = self.see_host(at) else { return false };
        let range = host.log.log_start()..host.log.log_end();
        let disk = self.sites[at.0].disks.get(&at.1).map(FaultDisk::memory);
        disk.is_some_and(|disk| is_sound(disk, &at.1, &range))
    }

    /// Whether all batches behind `from` are there, and what was written.
    pub fn is_whole_from(&self, at: At, from: Offset) -> bool {
        let Some(end) = self.see_host(at).map(|host| host.log.log_end()) else { return false };
        let Some(disk) = self.sites[at.0].disks.get(&at.1) else { return false };
        let mut next = from;
        for batch in whole_batches(disk.memory(), &at.1) {
            if batch.start <= next {
                next = next.max(batch.end);
            }
        }
        next >= end
    }

    /// From where the replica's log starts to where it is on the disk, whatever comes.
    pub fn flushed(&self, at: At) -> Option<Range<Offset>> {
        match (self.see_host(at), self.sites[at.0].remains.get(&at.1)) {
            (Some(host), _) => Some(host.log.log_start()..host.log.flushed_end()),
            (None, Some(remains)) => Some(remains.start..remains.durable),
            (None, None) => None,
        }
    }

    /// What stands in its files is not what was written, as far as anybody in the run can know.
    pub fn is_decayed(&self, at: At) -> bool {
        self.sites[at.0].decayed.contains(&at.1)
    }

    pub fn look_at_all_files(&mut self) {
        for site in 0..self.settings.brokers {
            for key in self.sites[site].decayed.clone() {
                self.look_at_files((site, key));
            }
        }
    }

    /// It may have been cut off, deleted or written anew since.
    pub fn look_at_files(&mut self, at: At) {
        if !self.is_decayed(at) {
            return;
        }
        // of a log that is not open, nobody knows yet what is there
        let Some(host) = self.see_host(at) else { return };
        // what was deleted in it whoever looks through it takes for damaged all the same
        let range = Offset::ZERO..host.log.log_end();
        let disk = self.sites[at.0].disks.get(&at.1).map(FaultDisk::memory);
        if disk.is_some_and(|disk| is_sound(disk, &at.1, &range)) {
            self.sites[at.0].decayed.remove(&at.1);
            let facts = [at.0 as u64, at.1.partition.0.into(), range.start.0, range.end.0];
            self.trace.note(self.now, "sound again", facts);
        }
    }
}

/// The segments' files, each with the offset that it begins at.
fn segments(disk: &MemDisk) -> Vec<(Offset, PathBuf, Vec<u8>)> {
    let base = |path: &PathBuf| {
        let is_log = path.extension().is_some_and(|kind| kind == "log");
        path.file_stem()?.to_str()?.parse().ok().filter(|_| is_log).map(Offset)
    };
    let files = disk.files().into_iter();
    let mut found: Vec<_> =
        files.filter_map(|(path, content)| Some((base(&path)?, path, content))).collect();
    found.sort_by_key(|(base, ..)| *base);
    found
}

fn places(disk: &MemDisk, key: &PartitionKey, flushed: &Range<Offset>) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for (_, path, content) in segments(disk) {
        let (mut position, mut flushed_to, first) = (0, Offset::ZERO, places.len());
        places.iter_mut().for_each(|place| place.is_last = false);
        while let Ok(header) = BatchHeader::decode_verified(&content[position..], key) {
            let len = header.encoded_len();
            if header.end_offset() > flushed.end || position + len > content.len() {
                break;
            }
            if header.end_offset() > flushed.start {
                let (path, end) = (path.clone(), position + len);
                places.push(Place { path, position, len, end, zeros_to: 0, is_last: false });
            }
            flushed_to = header.end_offset();
            position += len;
        }
        let is_sealed = position == content.len() && flushed_to < flushed.end;
        let (last, end) =
            places[first..].last().map_or((0, 0), |place| (place.position, place.end));
        let zeros_to = if is_sealed { end } else { last };
        places[first..].iter_mut().for_each(|place| (place.zeros_to, place.end) = (zeros_to, end));
        if let Some(last) = places[first..].last_mut() {
            last.is_last = true;
        }
    }
    places
}

/// Whether all batches of these offsets are what was written.
pub fn is_sound(disk: &MemDisk, key: &PartitionKey, range: &Range<Offset>) -> bool {
    let files = segments(disk);
    let ends = files.iter().skip(1).map(|(next, ..)| *next).chain([Offset(u64::MAX)]);
    files.iter().zip(ends).all(|((base, _, content), end)| {
        let (mut rest, mut from) = (&content[..], *base);
        while let Err(bad) = check_batches(rest, key, from) {
            rest = &rest[bad.position + 1..];
            let sound = |at: &usize| BatchHeader::decode_verified(&rest[*at..], key).is_ok();
            let behind = (0..rest.len().saturating_sub(OVERHEAD)).find(sound);
            rest = &rest[behind.unwrap_or(rest.len())..];
            from = BatchHeader::decode_verified(rest, key).map_or(end, |it| it.base_offset);
            if bad.at < range.end && from > range.start {
                return false;
            }
        }
        true
    })
}

/// Of all batches whose header is sound, in order.
pub fn sound_headers(disk: &MemDisk, key: &PartitionKey) -> Vec<BatchHeader> {
    let mut headers: Vec<BatchHeader> = Vec::new();
    for (_, _, content) in segments(disk) {
        let mut position = 0;
        while position + OVERHEAD <= content.len() {
            match BatchHeader::decode_verified(&content[position..], key) {
                Ok(header) if position + header.encoded_len() <= content.len() => {
                    position += header.encoded_len();
                    headers.push(header);
                }
                _ => position += 1,
            }
        }
    }
    headers
}

/// What stands for what was given up.
pub fn stand_ins(disk: &MemDisk, key: &PartitionKey) -> Vec<BatchHeader> {
    let mut headers = sound_headers(disk, key);
    headers.retain(|it| it.record_count == 0 && it.base_timestamp < 0);
    headers
}

/// Of all batches both of whose checksums hold.
pub fn whole_batches(disk: &MemDisk, key: &PartitionKey) -> Vec<Range<Offset>> {
    let mut whole = Vec::new();
    for (_, _, content) in segments(disk) {
        let mut position = 0;
        while position + OVERHEAD <= content.len() {
            let header = BatchHeader::decode_verified(&content[position..], key);
            let Some(header) =
                header.ok().filter(|header| position + header.encoded_len() <= content.len())
            else {
                position += 1;
                continue;
            };
            let end = position + header.encoded_len();
            if check_batches(&content[position..end], key, header.base_offset).is_ok() {
                whole.push(header.base_offset..header.end_offset());
            }
            position = end;
        }
    }
    whole
}
