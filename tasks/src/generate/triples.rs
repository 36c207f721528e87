//! A knowledge graph: lines of head, relation and tail, each by Zipf's law.
//!
//! Entities fall into classes, and every relation takes a class to one other: `class(tail) = class(head) + shift(relation)`,
//! round and round. A share of the triples is noise, whose tails follow popularity alone. So there is something to find
//! (models that can turn or move, such as ComplEx, TransE and RotatE, find it), and it is known how much.
//!
//! Each triple depends on the seed and its number alone: a range of numbers gives a test set of the same world.

use std::io::Write;

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Generator, Zipf, mixed};

/// What a generated graph is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Triples {
    /// Entities, of which the popular ones come often and the others seldom or never.
    pub entities: u32,
    /// Relations.
    pub relations: u32,
    /// Classes of entities.
    pub classes: u32,
    /// Exponent of the entities' law of Zipf; 0 makes all alike.
    pub entity_zipf: f64,
    /// Exponent of the relations' law of Zipf.
    pub relation_zipf: f64,
    /// Share of triples whose tail follows no rule.
    pub noise: f64,
    /// Seed of everything.
    pub seed: u64,
}

impl Default for Triples {
    fn default() -> Self {
        Self {
            entities: 20_000,
            relations: 50,
            classes: 20,
            entity_zipf: 0.8,
            relation_zipf: 1.0,
            noise: 0.1,
            seed: 1,
        }
    }
}

/// A generator of triples.
#[derive(Clone, Debug)]
pub struct TripleLog {
    graph: Triples,
    entity_law: Zipf,
    relation_law: Zipf,
    next: u64,
    end: u64,
    total: u64,
}

impl TripleLog {
    /// Triples `first..first + count` of this graph.
    ///
    /// # Panics
    /// If there is no entity, relation or class, an exponent is negative or not finite, or the noise is no share.
    #[must_use]
    pub fn new(graph: Triples, (first, count): (u64, u64)) -> Self {
        assert!(graph.classes > 0 && (0.0..=1.0).contains(&graph.noise));
        let entity_law = Zipf::new(graph.entities, graph.entity_zipf);
        let relation_law = Zipf::new(graph.relations, graph.relation_zipf);
        let end = first.saturating_add(count);
        Self { graph, entity_law, relation_law, next: first, end, total: count }
    }

    /// Head, relation and tail, as ranks from 0.
    fn triple(&self, number: u64) -> [u32; 3] {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(mixed(self.graph.seed ^ mixed(number)));
        let mut entity = || self.entity_law.sample(&mut random) - 1;
        let (head, tail) = (entity(), entity());
        let relation = self.relation_law.sample(&mut random) - 1;
        if random.random_bool(self.graph.noise) {
            return [head, relation, tail];
        }
        [head, relation, self.of_class(tail, self.class_of_tail(head, relation))]
    }

    fn class_of_tail(&self, head: u32, relation: u32) -> u32 {
        let classes = u64::from(self.graph.classes);
        let shift = mixed(self.graph.seed.rotate_left(32) ^ u64::from(relation)) % classes;
        let class = (u64::from(head) + shift) % classes;
        u32::try_from(class).expect("below the number of classes")
    }

    /// The entity of this class in the same run of ranks: about as popular. The last run may lack it.
    fn of_class(&self, entity: u32, class: u32) -> u32 {
        let found = entity - entity % self.graph.classes + class;
        if found < self.graph.entities { found } else { entity }
    }
}

impl Generator for TripleLog {
    fn total(&self) -> u64 {
        self.total
    }

    fn next_part(&mut self, count: u64, out: &mut Vec<u8>) -> u64 {
        let first = self.next;
        self.next = self.end.min(first.saturating_add(count));
        for number in first..self.next {
            let [head, relation, tail] = self.triple(number);
            writeln!(out, "e{head}\tr{relation}\te{tail}").expect("memory takes every byte");
        }
        self.next - first
    }
}

#[cfg(test)]
mod tests {
    use super::{Generator, TripleLog, Triples};
    use crate::kge::Graph;

    const GRAPH: Triples = Triples {
        entities: 1000,
        relations: 7,
        classes: 10,
        entity_zipf: 0.8,
        relation_zipf: 1.0,
        noise: 0.25,
        seed: 1,
    };

    fn whole(graph: Triples, range: (u64, u64)) -> Vec<u8> {
        let (mut log, mut out) = (TripleLog::new(graph, range), Vec::new());
        while log.next_part(70, &mut out) > 0 {}
        out
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_ranges_are_parts_of_the_whole() {
        let all = whole(GRAPH, (0, 300));
        assert_eq!(whole(GRAPH, (0, 300)), all);
        assert_ne!(whole(Triples { seed: 2, ..GRAPH }, (0, 300)), all);
        assert_eq!([whole(GRAPH, (0, 120)), whole(GRAPH, (120, 180))].concat(), all);
    }

    #[test]
    fn all_but_the_noise_follows_the_rule_of_classes() {
        let log = TripleLog::new(GRAPH, (0, 0));
        let follows = |number| {
            let [head, relation, tail] = log.triple(number);
            assert!(head < 1000 && relation < 7 && tail < 1000);
            tail % 10 == log.class_of_tail(head, relation)
        };
        let right = (0..10_000).filter(|&number| follows(number)).count();
        // A tenth of the noise follows it by chance.
        assert!((7550..7950).contains(&right), "{right}");
    }

    #[test]
    fn a_few_entities_are_in_many_triples() {
        let log = TripleLog::new(GRAPH, (0, 0));
        let popular = (0..10_000).filter(|&number| log.triple(number)[2] < 100).count();
        // By the law 51 %.
        assert!((4800..5400).contains(&popular), "{popular}");
    }

    #[test]
    fn what_is_written_is_read_as_a_graph() {
        let folder = tempfile::tempdir().unwrap();
        for (name, range) in [("train", (0, 5000)), ("valid", (5000, 50)), ("test", (5050, 50))] {
            std::fs::write(folder.path().join(format!("{name}.txt")), whole(GRAPH, range)).unwrap();
        }
        let counts = Graph::read(folder.path()).unwrap().counts();
        assert_eq!((counts.train, counts.valid, counts.test, counts.relations), (5000, 50, 50, 7));
        assert!((700..=1000).contains(&counts.entities));
    }
}
