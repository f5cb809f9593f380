//! What benchmarks send: lines that look like JSON of some service, from a seed, made before any clock
//! runs. They compress about as well as such data does; random bytes would not compress at all.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Small enough to stay in a core's cache, so that reading values costs what it costs any producer.
const POOL_BYTES: usize = 512 << 10;
/// Odd, so that the values of a run do not repeat soon.
const STRIDE: usize = 8_191;

/// Values of one size, cut out of a pool.
pub struct Payload {
    pool: Vec<u8>,
    size: usize,
}

impl Payload {
    pub fn new(size: usize, seed: u64) -> Payload {
        const WORDS: [&str; 16] = [
            "order",
            "created",
            "shipped",
            "customer",
            "amount",
            "currency",
            "EUR",
            "status",
            "open",
            "warehouse",
            "region",
            "north",
            "priority",
            "retry",
            "shard",
            "batch",
        ];
        let mut random = StdRng::seed_from_u64(seed);
        let wanted = POOL_BYTES + size;
        let mut pool = Vec::with_capacity(wanted + 128);
        while pool.len() < wanted {
            let word = |random: &mut StdRng| WORDS[random.random_range(0..WORDS.len())];
            let (first, second) = (word(&mut random), word(&mut random));
            let (id, amount) = (random.random::<u64>(), random.random_range(0..100_000));
            pool.extend(
                format!("{{\"id\":\"{id:016x}\",\"{first}\":\"{second}\",\"amount\":{amount}}},")
                    .bytes(),
            );
        }
        pool.truncate(wanted);
        Payload { pool, size }
    }

    /// The value of a record.
    #[inline]
    pub fn value(&self, record: u64) -> &[u8] {
        let at = (record as usize).wrapping_mul(STRIDE) % POOL_BYTES;
        &self.pool[at..at + self.size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_values_of_the_size_asked_for() {
        for size in [0, 1, 100, 1024, 3 << 20] {
            let (a, b) = (Payload::new(size, 7), Payload::new(size, 7));
            for record in [0, 1, 63, 1_000_000, u64::MAX] {
                assert_eq!(a.value(record).len(), size);
                assert_eq!(a.value(record), b.value(record));
            }
        }
        assert_ne!(Payload::new(100, 1).value(0), Payload::new(100, 2).value(0));
    }
}
