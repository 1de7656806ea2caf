//! The lives of a member's volume: each start of a process on it is one, and a volume remembers them as a chain.
//!
//! A copy of a volume has the same past as the original, and from then on another future. So whoever knows the newest life
//! that a cluster has recorded can tell a volume that goes on from there from a copy that was made before, and from a
//! volume on which somebody else has started meanwhile.

/// One process of a member, from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// Which start of its volume it was: 1, 2, and so on.
    pub number: u64,
    /// Drawn when it began, so that two that begin from copies of one volume differ.
    pub token: u128,
}

impl Life {
    /// Whether a volume that begins the life `present` goes on from the life that was `recorded`. `before` are the lives of the
    /// volume since the last one of which it knows that it was recorded, that one included, oldest first.
    ///
    /// Whoever recorded may be behind: a life from before the first of these says nothing.
    pub fn continues(recorded: Self, present: Self, before: &[Self]) -> bool {
        let first = before.first().unwrap_or(&present);
        recorded == present || before.contains(&recorded) || recorded.number < first.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(number: u64, token: u128) -> Life {
        Life { number, token }
    }

    #[test]
    fn a_volume_goes_on_from_any_life_of_its_own_and_from_no_other() {
        let before = [life(3, 3), life(4, 4)];
        let goes_on = |recorded| Life::continues(recorded, life(5, 5), &before);
        assert!(goes_on(life(3, 3)) && goes_on(life(4, 4)) && goes_on(life(5, 5)));
        assert!(goes_on(life(2, 99)), "whoever knows only of older lives is behind");
        assert!(!goes_on(life(4, 99)), "somebody else has begun the fourth life");
        assert!(!goes_on(life(5, 99)), "two have begun from one volume");
        assert!(!goes_on(life(9, 99)), "the volume is a copy from before");
        assert!(Life::continues(life(1, 1), life(2, 2), &[life(1, 1)]));
        assert!(!Life::continues(life(1, 9), life(1, 1), &[]));
    }
}
