//! What readers see of the images of lines, and whether it is what it must be.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use troupe_client::{Client, IsolationLevel, Reader, ReaderConfig, Start};
use troupe_proto::ids::{Offset, PartitionId};
use troupe_tests::{PATIENCE, Stored};

/// Of all that is wrong with one partition, so much is told.
const TOLD: usize = 5;

/// By partition, in the order that they came: offsets and images.
#[derive(Debug, Default)]
pub struct Images {
    of: Mutex<BTreeMap<u32, Vec<Stored>>>,
}

/// All that a reader that comes now sees.
pub async fn images(
    client: &Client,
    topic: &str,
    partitions: u32,
    isolation_level: IsolationLevel,
) -> Images {
    let images = Images::default();
    let config = ReaderConfig { until_end: true, isolation_level, ..ReaderConfig::default() };
    let mut reader = client.reader(topic, config).await.unwrap();
    while let Some(batch) = timeout(PATIENCE, reader.next_batch()).await.unwrap() {
        for record in batch.unwrap().records().map(Result::unwrap) {
            let value = record.value.unwrap_or_default().to_vec();
            assert!(record.partition.0 < partitions);
            images.note(record.partition.0, record.offset.0, value);
        }
    }
    images
}

impl Images {
    fn note(&self, partition: u32, offset: u64, image: Vec<u8>) {
        self.of.lock().unwrap().entry(partition).or_default().push((offset, image));
    }

    pub fn count(&self) -> usize {
        self.of.lock().unwrap().values().map(Vec::len).sum()
    }

    /// Notes what is committed while it is, until it is told to end; what was met that must not be.
    pub async fn read(
        self: Arc<Self>,
        client: Client,
        topic: &'static str,
        end: Arc<AtomicBool>,
    ) -> Vec<String> {
        /// It hears of the end in time.
        const GLANCE: Duration = Duration::from_millis(200);
        let mut wrong = Vec::new();
        let mut reader = self.open(&client, topic).await;
        while !end.load(Ordering::SeqCst) {
            let Ok(next) = timeout(GLANCE, reader.next_batch()).await else { continue };
            match next {
                Some(Ok(batch)) => {
                    for record in batch.records().map(Result::unwrap) {
                        let image = record.value.unwrap_or_default().to_vec();
                        self.note(record.partition.0, record.offset.0, image);
                    }
                }
                // It mends what can be mended by itself.
                Some(Err(error)) => {
                    wrong.push(format!("a reader of images ended: {error}"));
                    reader = self.open(&client, topic).await;
                }
                None => {
                    wrong.push("a reader of all images has an end".to_owned());
                    return wrong;
                }
            }
        }
        wrong
    }

    /// In the midst of a fault nobody may answer.
    async fn open(&self, client: &Client, topic: &str) -> Reader {
        const AGAIN: Duration = Duration::from_millis(50);
        let next = |(partition, seen): (&u32, &Vec<Stored>)| {
            (PartitionId(*partition), Offset(seen.last().map_or(0, |(offset, _)| offset + 1)))
        };
        let start = Start::Each(self.of.lock().unwrap().iter().map(next).collect());
        let isolation_level = IsolationLevel::ReadCommitted;
        let config = ReaderConfig { start, isolation_level, ..ReaderConfig::default() };
        loop {
            match client.reader(topic, config.clone()).await {
                Ok(reader) => return reader,
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    /// Each line of each input partition has one image, all of a partition's in one partition, in its order; there are no
    /// others. `ends`: of the input; `image`: of a line.
    pub fn judge(
        &self,
        ends: &BTreeMap<u32, u64>,
        image: impl Fn(u32, u64) -> Vec<u8>,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        // By input partition: where its images are, and which has to come next.
        let mut next: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
        for (output, seen) in &*self.of.lock().unwrap() {
            let mut told = 0;
            for (at, value) in seen {
                let mut say = |what: String| {
                    told += 1;
                    if told <= TOLD {
                        wrong.push(format!("image at {output}/{at}: {what}"));
                    }
                };
                let place = place(value).filter(|&(input, offset)| {
                    ends.get(&input).is_some_and(|end| offset < *end)
                        && image(input, offset) == *value
                });
                let Some((input, offset)) = place else {
                    say(format!("of no line: {}", String::from_utf8_lossy(value)));
                    continue;
                };
                let (home, due) = next.entry(input).or_insert((*output, 0));
                if *home != *output {
                    say(format!("line {input}/{offset}: others are in {home}"));
                } else if offset != *due {
                    say(format!("line {input}/{offset} came for {due}"));
                }
                *due = offset + 1;
            }
            if told > TOLD {
                wrong.push(format!("partition {output}: {told} images are wrong in all"));
            }
        }
        for (input, end) in ends {
            let due = next.get(input).map_or(0, |(_, due)| *due);
            if due != *end {
                wrong.push(format!("input {input}: images up to {due} of {end}"));
            }
        }
        wrong
    }

    /// Who reads while things happen sees no other than who comes later.
    pub fn is_beginning_of(&self, whole: &Images) -> Vec<String> {
        let whole = whole.of.lock().unwrap();
        let mut wrong = Vec::new();
        for (partition, seen) in &*self.of.lock().unwrap() {
            let all = whole.get(partition).map_or(&[][..], Vec::as_slice);
            if !all.starts_with(seen) {
                let differs = seen.iter().zip(all).position(|(one, other)| one != other);
                let at = differs.unwrap_or(all.len());
                let (was, is) = (seen.get(at), all.get(at));
                wrong.push(format!("partition {partition}: {was:?} was read, {is:?} is there"));
            }
        }
        wrong
    }
}

/// Of which line this is the image: partition and offset.
fn place(image: &[u8]) -> Option<(u32, u64)> {
    let mut parts = image.splitn(3, |byte| *byte == b'/');
    let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse::<u64>().ok();
    Some((number()? as u32, number()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: u64 = 10;

    fn image(partition: u32, offset: u64) -> Vec<u8> {
        format!("{partition}/{offset}/X").into_bytes()
    }

    /// Of these lines, in one partition.
    fn of(lines: impl IntoIterator<Item = (u32, u64)>) -> Images {
        let images = Images::default();
        for (at, (partition, offset)) in lines.into_iter().enumerate() {
            images.note(0, at as u64, image(partition, offset));
        }
        images
    }

    fn judge(images: &Images) -> Vec<String> {
        images.judge(&BTreeMap::from([(1, LINES)]), image)
    }

    fn whole() -> Vec<(u32, u64)> {
        (0..LINES).map(|offset| (1, offset)).collect()
    }

    #[test]
    fn one_image_of_every_line_is_right() {
        assert_eq!(judge(&of(whole())), Vec::<String>::new());
    }

    #[test]
    fn images_that_are_missing_or_there_twice_or_elsewhere_are_noticed() {
        for place in 0..LINES as usize {
            let mut lines = whole();
            lines.remove(place);
            assert!(!judge(&of(lines)).is_empty(), "without {place}");
            let mut lines = whole();
            lines.insert(place, (1, place as u64));
            assert!(!judge(&of(lines)).is_empty(), "{place} twice");
            let mut lines = whole();
            lines.insert(place, (2, 0));
            assert!(!judge(&of(lines)).is_empty(), "another at {place}");
        }
        for place in 1..LINES as usize {
            let mut lines = whole();
            lines.swap(place - 1, place);
            assert!(!judge(&of(lines)).is_empty(), "{place} too early");
        }
        let mut lines = whole();
        let last = lines.pop().unwrap();
        let images = of(lines);
        images.note(1, 0, image(last.0, last.1));
        assert!(!judge(&images).is_empty(), "one in another partition");
    }

    #[test]
    fn who_saw_what_is_not_there_is_noticed() {
        let stored = of(whole());
        assert!(of(whole().into_iter().take(5)).is_beginning_of(&stored).is_empty());
        assert!(!of(whole().into_iter().skip(1)).is_beginning_of(&stored).is_empty());
        let more = whole().into_iter().chain([(1, LINES)]);
        assert!(!of(more).is_beginning_of(&stored).is_empty());
    }
}
