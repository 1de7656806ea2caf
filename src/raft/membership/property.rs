//! Lives of clusters: members end, come back and lose their volumes, Raft leaders end in the middle of a change, people change
//! their minds, and somebody scales the pods by hand. In the end everybody is there, and the cluster must be what was declared
//! last. What happens to a cluster, and which rules every plan is held to, is in `world.rs`.

use proptest::prelude::*;

use super::world::{CLEAR, Happening, Joined, Look, Mask, NAMES, World};
use super::*;

const SIZES: [(u32, u32); 7] = [(1, 0), (3, 0), (5, 0), (7, 0), (3, 2), (1, 2), (5, 1)];

fn happening() -> impl Strategy<Value = Happening> {
    let member = || 0..NAMES.len();
    let few = || (any::<Mask>(), any::<Mask>()).prop_map(|(one, other)| one & other);
    let wrong = || prop_oneof![Just(0), few()];
    let look = || {
        (any::<Mask>(), few(), wrong(), wrong()).prop_map(|(caught_up, unclear, late, unheard)| Look {
            caught_up,
            unclear,
            late,
            unheard,
        })
    };
    let joined = prop_oneof![1 => Just(Joined::HasAnId), 1 => Just(Joined::IsAdded), 4 => Just(Joined::Knows)];
    prop_oneof![
        2 => member().prop_map(Happening::Ends),
        3 => member().prop_map(Happening::ComesBack),
        1 => member().prop_map(Happening::LosesItsVolume),
        5 => (member(), joined).prop_map(|(member, joined)| Happening::Joins(member, joined)),
        1 => proptest::sample::select(&SIZES[..]).prop_map(Happening::Declared),
        1 => proptest::option::of(member()).prop_map(Happening::Preferred),
        1 => member().prop_map(Happening::Cordoned),
        1 => prop_oneof![Just(Care::Paused), Just(Care::Active), Just(Care::Active)].prop_map(Happening::Paused),
        1 => (1..=NAMES.len()).prop_map(Happening::ScaledByHand),
        1 => member().prop_map(Happening::Elected),
        10 => look().prop_map(Happening::Looks),
        2 => look().prop_map(Happening::LooksAndEnds),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_plan_costs_the_quorum_or_an_id_twice_and_in_the_end_the_cluster_is_what_was_declared(
        happenings in proptest::collection::vec(happening(), 1..300)
    ) {
        let mut world = World::new();
        happenings.into_iter().for_each(|happening| world.happen(happening));

        world.up = NAMES.into();
        world.happen(Happening::Paused(Care::Active));
        for _ in 0..150 {
            (0..NAMES.len()).for_each(|member| world.join(member, Joined::Knows));
            world.look(CLEAR);
        }
        let size = world.declared;
        let (voters, all) = (size.voters as usize, (size.voters + size.learners) as usize);
        prop_assert_eq!(world.picture.voters.len(), 1, "a change is left over");
        prop_assert_eq!(world.places(), [NAMES[..voters].to_vec(), NAMES[voters..all].to_vec()]);
        prop_assert_eq!(world.pods, all);
        prop_assert!(world.picture.nodes.keys().all(|member| world.living().contains(member)));
        prop_assert!(world.machine.members().map(|(member, _)| member).eq(world.picture.nodes.keys().copied()));

        let preferred = world.machine.steering().preferred_leader.clone();
        let fit = |name: &str| !world.picture.unfit.contains(name);
        let leader = world.picture.name(world.picture.own);
        if let Some(preferred) = preferred.filter(|name| fit(name.as_str()) && NAMES[..voters].contains(&name.as_str())) {
            prop_assert_eq!(leader, preferred.as_str());
        } else if NAMES[..voters].iter().any(|name| fit(name)) {
            prop_assert!(fit(leader), "{} leads and is cordoned", leader);
        }
    }
}
