//! What the active controller does of itself from time to time (R15, R17).

use super::actor::SessionActor;
use crate::config::Upkeep;
use actix::prelude::*;
use std::time::Duration;
use troupe_machines::cluster::{ClusterImage, LeaderBalance};

/// How often it is looked at whether leaders that were silent are heard.
const CONFIRM_LEADERS: Duration = Duration::from_secs(2);

impl SessionActor {
    /// Until the timers are cancelled.
    pub(super) fn begin_upkeep(ctx: &mut Context<Self>, upkeep: Upkeep) -> Vec<SpawnHandle> {
        vec![
            ctx.run_interval(upkeep.leaderless_check, Self::elect_leaderless),
            ctx.run_interval(CONFIRM_LEADERS, Self::confirm_leaders),
        ]
    }

    /// Leaders are balanced as what is set for the cluster says now: with another interval, from now on.
    pub(super) fn follow_upkeep(&mut self, image: &ClusterImage, ctx: &mut Context<Self>) {
        let upkeep = self.settings.cluster.upkeep(image);
        match &self.balancing {
            Some((before, _)) if *before == upkeep => return,
            Some((_, timer)) => {
                ctx.cancel_future(*timer);
            }
            None => {}
        }
        self.balancing = upkeep
            .leader_rebalance
            .then(|| (upkeep, ctx.run_interval(upkeep.imbalance_check, Self::balance_leaders)));
    }

    fn balance_leaders(&mut self, ctx: &mut Context<Self>) {
        let controller = self.controller.clone();
        let image = self.controller.image().borrow().clone();
        let percentage_per_broker = self.settings.cluster.upkeep(&image).imbalance_percentage;
        let balance = LeaderBalance { percentage_per_broker, ..LeaderBalance::default() };
        let balanced = async move { controller.balance_leaders(balance).await };
        ctx.spawn(balanced.into_actor(self).map(|balanced, _, _| match balanced {
            Ok(0) => {}
            Ok(moved) => tracing::info!(moved, "leaderships went back to where they are preferred"),
            Err(error) => tracing::debug!(%error, "leaders were not balanced"),
        }));
    }

    fn confirm_leaders(&mut self, ctx: &mut Context<Self>) {
        let image = self.controller.image().borrow().clone();
        let silent = self.silent();
        if image.confirm_leaders(&silent).records.is_empty() {
            return;
        }
        let controller = self.controller.clone();
        let confirmed = async move { controller.confirm_leaders(silent).await };
        ctx.spawn(confirmed.into_actor(self).map(|confirmed, _, _| {
            if let Err(error) = confirmed {
                tracing::debug!(%error, "leaders were not confirmed");
            }
        }));
    }

    fn elect_leaderless(&mut self, ctx: &mut Context<Self>) {
        let controller = self.controller.clone();
        let elected = async move { controller.elect_leaderless().await };
        ctx.spawn(elected.into_actor(self).map(|elected, _, _| match elected {
            Ok(0) => {}
            Ok(elected) => tracing::info!(elected, "partitions without a leader got one"),
            Err(error) => tracing::debug!(%error, "partitions without a leader were not looked at"),
        }));
    }
}
