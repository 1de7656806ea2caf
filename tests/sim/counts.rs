//! What was done to the members of a run, or of many: a run that injected nothing has proved nothing.

use crate::disk::Damage;

/// Declares a struct of numbers that can be added up, shown, and looked through for what never happened.
macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($counter:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name {
            $(pub $counter: u64,)*
        }

        impl $name {
            pub fn add(&mut self, other: &Self) {
                $(self.$counter += other.$counter;)*
            }

            /// Each number under its name.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($counter), self.$counter)),*]
            }
        }
    };
}
pub(crate) use counters;

counters! {
    /// What happened to members, and what came of it.
    Counts {
        power_losses,
        power_losses_at_a_sync,
        sectors_kept,
        sectors_lost,
        torn_files,
        names_lost,
        kills,
        stopped_by_a_failed_sync,
        all_down,
        partitions,
        one_way_partitions,
        transfers,
        unfit_members,
        deceits,
        fast_failovers,
        suspicions_gone,
        suspicions_alive,
        suspicions_unsure,
        suspicions_outvoted,
        volumes_emptied,
        copies_put_back,
        copies_refused,
        volumes_set_aside,
        removed_and_wanted_again,
        founded_alone,
        registry_errors,
        ids_given_later,
        leaderships,
        duties_done,
        duties_superseded,
        reigns,
        reigns_to_the_deadline,
        operations,
        unknown_operations,
        events,
    }
}

impl Counts {
    pub fn add_damage(&mut self, damage: Damage) {
        self.power_losses += 1;
        self.sectors_kept += damage.sectors_kept;
        self.sectors_lost += damage.sectors_lost;
        self.torn_files += damage.torn_files;
        self.names_lost += damage.names_lost;
    }
}
