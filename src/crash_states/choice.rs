//! [`Choices`]: the choices that lead to one state of the disk. A sequence of choices is enumerated, chosen at random,
//! or follows one rule.

/// What is chosen. Choice 0 is the durable version, and the last choice is the newest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Length,
    Block,
    /// Whether the sectors of a block are chosen separately.
    Torn,
}

/// How the next choices are made.
#[derive(Debug)]
pub(super) enum Choices {
    /// The next sequence of all: the choices so far, and the number of possibilities of each.
    Each { made: Vec<(usize, usize)>, at: usize },
    /// Random choices, from the state of a generator.
    Random(u64),
    /// All choices of a kind are the oldest or the newest one. `except` is the number of one length or block that
    /// deviates from the rule.
    Corner { newest: [bool; 3], except: Option<usize>, at: usize },
}

impl Choices {
    pub(super) fn first() -> Self {
        Self::Each { made: Vec::new(), at: 0 }
    }

    /// Returns the rules: names, lengths and blocks are old or new, and then one length or block deviates.
    pub(super) fn corners(deviations: usize) -> impl Iterator<Item = Self> {
        let exceptions = std::iter::once(None).chain((0..deviations).map(Some));
        exceptions.flat_map(|except| {
            (0..8).map(move |bits| Self::Corner {
                newest: [1, 2, 4].map(|bit| bits & bit != 0),
                except,
                at: 0,
            })
        })
    }

    /// Prepares the next sequence of [`Choices::first`]. Returns `false` if there was none.
    pub(super) fn advance(&mut self) -> bool {
        let Self::Each { made, at } = self else { return true };
        made.truncate(*at);
        *at = 0;
        while let Some((choice, possible)) = made.pop() {
            if choice + 1 < possible {
                made.push((choice + 1, possible));
                return true;
            }
        }
        false
    }

    pub(super) fn tears_all_blocks(&self) -> bool {
        matches!(self, Self::Random(_))
    }

    pub(super) fn choose(&mut self, kind: Kind, possible: usize) -> usize {
        match self {
            Self::Each { made, at } => {
                if *at == made.len() {
                    made.push((0, possible));
                }
                *at += 1;
                made[*at - 1].0
            }
            Self::Random(state) => match kind {
                Kind::Torn => usize::from(next(state) % 8 == 0),
                // The newest and the oldest version are more likely than the versions in between.
                _ if possible > 3 && next(state) % 2 == 0 => (next(state) % 2) as usize * (possible - 1),
                _ => (next(state) % possible as u64) as usize,
            },
            Self::Corner { newest: [names, lengths, blocks], except, at } => {
                let is_new = match kind {
                    Kind::Torn => return 0,
                    Kind::Name => *names,
                    Kind::Length => *lengths,
                    Kind::Block => *blocks,
                };
                let deviates = kind != Kind::Name && {
                    *at += 1;
                    *except == Some(*at - 1)
                };
                if is_new != deviates { possible - 1 } else { 0 }
            }
        }
    }
}

/// Returns the next number of a pseudo-random sequence (splitmix64).
pub(super) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[test]
fn each_sequence_of_choices_comes_once() {
    let (mut choices, mut seen) = (Choices::first(), std::collections::BTreeSet::new());
    loop {
        let first = choices.choose(Kind::Name, 2);
        let second = if first == 1 { choices.choose(Kind::Block, 3) } else { 0 };
        assert!(seen.insert((first, second, choices.choose(Kind::Length, 2))));
        if !choices.advance() {
            break;
        }
    }
    assert_eq!(seen.len(), 2 + 6);
}
