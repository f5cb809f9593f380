//! Which fault hits whom: nothing but the seed and the actors that are there decide.

use super::fault::{Fault, Target};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub struct Sampler {
    random: StdRng,
}

impl Sampler {
    pub fn new(seed: u64) -> Sampler {
        Sampler { random: StdRng::seed_from_u64(seed) }
    }

    /// One of the faults, for one of those that can suffer it. None: there is nobody.
    pub fn sample(&mut self, faults: &[Fault], targets: &[Target]) -> Option<(Fault, String)> {
        // Both are drawn always, so that one missing actor does not change all that follows.
        let fault = self.random.random::<u32>() as usize;
        let target = self.random.random::<u32>() as usize;
        let fault = *faults.get(fault.checked_rem(faults.len())?)?;
        let able: Vec<&Target> = targets.iter().filter(|target| target.can_suffer(fault)).collect();
        Some((fault, able.get(target.checked_rem(able.len())?)?.address.clone()))
    }

    /// For the node that carries out the fault.
    pub fn seed_of_fault(&mut self) -> u64 {
        self.random.random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same() {
        let target = |number: i32| Target { address: number.to_string(), partition: number > 5 };
        let targets: Vec<Target> = (0..10).map(target).collect();
        let faults = [Fault::Kill, Fault::Pause];
        let run = |seed| {
            let mut sampler = Sampler::new(seed);
            (0..20).map(|_| sampler.sample(&faults, &targets)).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let paused = run(7).into_iter().flatten().filter(|(fault, _)| *fault == Fault::Pause);
        assert!(paused.into_iter().all(|(_, address)| address.parse::<i32>().unwrap() > 5));
        assert_eq!(Sampler::new(7).sample(&faults, &[]), None);
    }
}
