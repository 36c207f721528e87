//! What a step is going to do: all that is random about a batch, and so the rows it will touch.
//!
//! Frequent words are dropped and windows laid long before any row is read; which negatives they get is known
//! when the step begins ([`Planner::complete`]). Words are named by their places among the distinct words of the batch, which are the keys
//! to pull.

use std::ops::Range;

use rand::Rng;

use super::window::{NONE, OUTPUTS};
use crate::words::Shape;
use crate::words::sample::Subsample;

/// Marks a word without a place.
const NOWHERE: u32 = u32::MAX;

/// A planned batch.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The distinct words whose input rows the step reads and changes.
    pub(super) inputs: Vec<u64>,
    /// The same for output rows.
    pub(super) outputs: Vec<u64>,
    /// Places in `inputs` of the words that stayed, sentence after sentence.
    pub(super) words: Vec<u32>,
    pub(super) centres: Vec<Centre>,
    /// Places in `outputs` of each centre's outputs, a whole number of blocks for each.
    pub(super) targets: Vec<[u32; OUTPUTS]>,
    /// Words that were drawn, for one centre after the other.
    pub(super) negatives: Vec<u64>,
}

/// A centre and its window, as places in [`Plan::words`].
#[derive(Clone, Debug)]
pub(super) struct Centre {
    pub(super) at: usize,
    /// The words around it, itself among them.
    pub(super) around: Range<usize>,
}

impl Plan {
    /// The distinct words whose input rows the step uses.
    #[must_use]
    pub fn inputs(&self) -> &[u64] {
        &self.inputs
    }

    /// The distinct words whose output rows the step uses.
    #[must_use]
    pub fn outputs(&self) -> &[u64] {
        &self.outputs
    }

    /// The buffer for negatives, as many as the centres need; to be filled before [`Planner::complete`].
    pub fn negatives_into(&mut self, shape: Shape) -> &mut [u64] {
        self.negatives.resize(self.words() * shape.negatives, 0);
        &mut self.negatives
    }

    /// Words of the batch that were not dropped. Each is a centre.
    #[must_use]
    pub fn words(&self) -> usize {
        self.words.len()
    }

    fn clear(&mut self) {
        self.inputs.clear();
        self.outputs.clear();
        self.words.clear();
        self.centres.clear();
        self.targets.clear();
        self.negatives.clear();
    }
}

/// Plans batches; one per worker.
#[derive(Debug)]
pub struct Planner {
    shape: Shape,
    /// Place of each word in the plan's `inputs` and `outputs`, or [`NOWHERE`].
    inputs: Vec<u32>,
    outputs: Vec<u32>,
    /// Words of one sentence that stayed.
    kept: Vec<u32>,
}

impl Planner {
    /// For a vocabulary of this many words.
    #[must_use]
    pub fn new(shape: Shape, words: usize) -> Self {
        let (inputs, outputs) = (vec![NOWHERE; words], vec![NOWHERE; words]);
        Self { shape, inputs, outputs, kept: Vec::new() }
    }

    /// Overwrites `plan` by one for these sentences of word numbers, without negatives.
    pub fn plan<'s>(
        &mut self,
        sentences: impl Iterator<Item = &'s [u32]>,
        subsample: &Subsample,
        random: &mut impl Rng,
        plan: &mut Plan,
    ) {
        plan.clear();
        for sentence in sentences {
            self.sentence(sentence, subsample, random, plan);
        }
        forget(&mut self.inputs, &plan.inputs);
    }

    /// Gives the plan's centres their outputs: themselves, and the negatives that were drawn.
    ///
    /// # Panics
    /// If these are not words of the vocabulary, as many as [`Plan::negatives_into`] has room for.
    pub fn complete(&mut self, plan: &mut Plan) {
        let Plan { inputs, outputs, words, centres, targets, negatives } = plan;
        let drawn = negatives.chunks_exact(self.shape.negatives);
        assert_eq!(drawn.len(), centres.len(), "negatives for all centres");
        outputs.clear();
        targets.clear();
        for (centre, negatives) in centres.iter().zip(drawn) {
            let word = inputs[words[centre.at] as usize];
            let mut block = [NONE; OUTPUTS];
            block[0] = place(&mut self.outputs, outputs, word);
            let mut filled = 1;
            for &negative in negatives {
                if filled == OUTPUTS {
                    targets.push(block);
                    (block, filled) = ([NONE; OUTPUTS], 0);
                }
                // One that is the centre itself is left out and not drawn again, as in the original.
                if negative != word {
                    block[filled] = place(&mut self.outputs, outputs, negative);
                }
                filled += 1;
            }
            targets.push(block);
        }
        forget(&mut self.outputs, outputs);
    }

    fn sentence(
        &mut self,
        sentence: &[u32],
        subsample: &Subsample,
        random: &mut impl Rng,
        plan: &mut Plan,
    ) {
        // Words are dropped before windows are laid, so that windows stretch over them.
        let stays = |&&word: &&u32| subsample.keeps(word, random);
        self.kept.clear();
        self.kept.extend(sentence.iter().filter(stays));
        let (start, count) = (plan.words.len(), self.kept.len());
        if count < 2 {
            return;
        }
        let window = u32::try_from(self.shape.window).expect("a window is small");
        for at in 0..count {
            let word = self.kept[at];
            plan.words.push(place(&mut self.inputs, &mut plan.inputs, word.into()));
            let reach = random.random_range(1..=window) as usize;
            let around = at.saturating_sub(reach)..(at + reach + 1).min(count);
            let around = start + around.start..start + around.end;
            plan.centres.push(Centre { at: start + at, around });
        }
    }
}

/// The place of a word among `keys`, a new one at the end if it had none.
#[inline]
fn place(places: &mut [u32], keys: &mut Vec<u64>, word: u64) -> u32 {
    let place = &mut places[index(word)];
    if *place == NOWHERE {
        *place = u32::try_from(keys.len()).expect("fewer places than words");
        keys.push(word);
    }
    *place
}

/// Takes the places of these words away again.
fn forget(places: &mut [u32], keys: &[u64]) {
    keys.iter().for_each(|&key| places[index(key)] = NOWHERE);
}

#[inline]
fn index(word: u64) -> usize {
    usize::try_from(word).expect("words are u32")
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::{NONE, OUTPUTS, Plan, Planner};
    use crate::words::sample::Subsample;
    use crate::words::{Architecture, Shape};

    fn planned(negatives: usize, sample: f64, sentences: &[&[u32]]) -> Plan {
        let architecture = Architecture::SkipGram;
        let shape = Shape { architecture, dim: 4, window: 2, negatives };
        let counts = [1_000_000_000, 10, 10, 10, 10];
        let subsample = Subsample::new(&counts, sample);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut plan = Plan::default();
        let mut planner = Planner::new(shape, counts.len());
        // Twice, because a plan must not leave anything behind for the next one.
        for _ in 0..2 {
            planner.plan(sentences.iter().copied(), &subsample, &mut random, &mut plan);
            plan.negatives_into(shape).fill_with(|| random.random_range(0..3));
            planner.complete(&mut plan);
        }
        plan
    }

    #[test]
    fn windows_stay_in_their_sentence_and_reach_as_far_as_is_allowed() {
        let sentence: Vec<u32> = (0..500).map(|at| at % 5).collect();
        let plan = planned(1, 0.0, &[&sentence, &[3, 4], &[1]]);
        // The lone word has no window.
        assert_eq!(plan.words(), 502);
        let mut reaches = [0; 3];
        for centre in &plan.centres[2..498] {
            let reach = centre.at - centre.around.start;
            assert_eq!(centre.around.end - centre.at - 1, reach);
            reaches[reach] += 1;
        }
        assert!(reaches[0] == 0 && reaches[1..].iter().all(|&times| times > 200), "{reaches:?}");
        assert_eq!(plan.centres[500].around, 500..502);
        assert_eq!(plan.centres[499].around.end, 500);
    }

    #[test]
    fn places_name_distinct_keys_and_negatives_are_never_the_centre() {
        let sentence: Vec<u32> = (0..200).map(|at| at % 5).collect();
        for (negatives, blocks) in [(1, 1), (5, 1), (6, 2), (11, 2), (12, 3)] {
            let plan = planned(negatives, 0.0, &[&sentence]);
            assert_eq!(plan.inputs(), [0, 1, 2, 3, 4]);
            assert!(sentence.iter().zip(&plan.words).all(|(word, place)| word == place));
            for (centre, targets) in plan.centres.iter().zip(plan.targets.chunks_exact(blocks)) {
                let word = plan.inputs[plan.words[centre.at] as usize];
                let names = targets.iter().flatten().filter(|&&place| place != NONE);
                let names: Vec<u64> = names.map(|&place| plan.outputs[place as usize]).collect();
                assert_eq!(names[0], word);
                assert!(names[1..].iter().all(|&name| name != word && name < 3));
                assert!(names.len() <= 1 + negatives && (word < 3 || names.len() == 1 + negatives));
            }
            assert_eq!(plan.targets.len(), 200 * blocks, "{OUTPUTS} outputs a block");
        }
    }

    #[test]
    fn windows_stretch_over_dropped_words() {
        let mut sentence = vec![0; 1000];
        sentence[0] = 1;
        sentence[999] = 2;
        // The frequent word stays about three times in ten thousand, a rare one always.
        let plan = planned(1, 1e-7, &[&sentence]);
        let names: Vec<u64> = plan.words.iter().map(|&at| plan.inputs[at as usize]).collect();
        assert!(names.len() < 20 && names.starts_with(&[1]) && names.ends_with(&[2]), "{names:?}");
    }
}
