//! What is known of each set.

use super::KnownSet;

const KGE: &str = "sterna train kge --data DIR";
const WORDS: &str = "sterna train words --help";
const MF: &str = "sterna train mf --help";
const CTR: &str = "sterna train ctr --help";
const GNN: &str = "sterna train gnn --help";
const MLR: &str = "sterna train mlr --help";
const NO_LICENCE: &str = "public research set, no licence stated";

pub(super) const ALL: &[KnownSet] = &[
    KnownSet {
        name: "WN18RR",
        task: "kge",
        size: "40,943 entities, 11 relations, 86,835 / 3,034 / 3,134 triples",
        terms: "WordNet licence: free use with its notice; it is inside this program",
        origin: "https://github.com/TimDettmers/ConvE (WN18RR.tar.gz)",
        notes: "WordNet without inverse relations (Dettmers et al. 2018). 210 test triples have an \
                entity that training never shows; published figures rank them too.",
        usage: "sterna train kge",
    },
    KnownSet {
        name: "FB15k-237",
        task: "kge",
        size: "14,541 entities, 237 relations, 272,115 / 17,535 / 20,466 triples",
        terms: "Freebase data CC BY; carried by an MIT repository",
        origin: "https://github.com/TimDettmers/ConvE (FB15k-237.tar.gz)",
        notes: "Freebase without inverse relations (Toutanova and Chen 2015). 28 test triples have \
                an entity that training never shows; published figures rank them too.",
        usage: KGE,
    },
    KnownSet {
        name: "ml-100k",
        task: "mf",
        size: "943 users, 1,682 movies, 100,000 ratings, five official folds",
        terms: "GroupLens: research, NO redistribution",
        origin: "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        notes: "u1.base to u5.base and u1.test to u5.test are the official folds.",
        usage: MF,
    },
    KnownSet {
        name: "ml-1m",
        task: "mf",
        size: "6,040 users, 3,706 movies, 900,000 / 100,203 ratings",
        terms: "GroupLens: research, NO redistribution",
        origin: "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        notes: "users.dat and movies.dat are GroupLens's own; train.tsv and probe.tsv are the split \
                of moviedata.mat in the demo code of Salakhutdinov and Mnih (PMF, BPMF), written as \
                user, movie and rating with tabs between.",
        usage: MF,
    },
    KnownSet {
        name: "enwiki100m",
        task: "words",
        size: "100,000,000 bytes of English Wikipedia, 16,915,465 words",
        terms: "Wikipedia text: CC BY-SA 3.0 / GFDL",
        origin: "https://github.com/jason-feng/wikiVisual (text/A[A-D]/wiki_00..99)",
        notes: "The form of text8: small letters and single spaces, digits spelled out, accents \
                taken off, title lines dropped, cut after 100,000,000 bytes. Not text8 itself.",
        usage: WORDS,
    },
    KnownSet {
        name: "word-eval",
        task: "words",
        size: "19,544 analogies, 353 and 999 pairs of words with similarities",
        terms: "published for research by their authors (WordSim-353: CC BY 4.0)",
        origin: "https://github.com/piskvorky/gensim (gensim/test/test_data)",
        notes: "questions-words.txt, wordsim353.tsv and simlex999.txt (Mikolov et al. 2013, \
                Finkelstein et al. 2002, Hill et al. 2015).",
        usage: WORDS,
    },
    KnownSet {
        name: "blogcatalog",
        task: "walks",
        size: "10,312 nodes, 333,983 edges, 39 labels",
        terms: NO_LICENCE,
        origin: "https://github.com/phanein/deepwalk (example_graphs/blogcatalog.mat)",
        notes: "edges.tsv and groups.tsv are the matrices of that file, written as pairs from 0.",
        usage: "sterna train walks --help",
    },
    KnownSet {
        name: "frappe",
        task: "ctr",
        size: "202,027 / 57,722 / 28,860 rows, 10 fields, 5,382 features",
        terms: "research, NO redistribution",
        origin: "https://github.com/hexiangnan/neural_factorization_machine (data/frappe)",
        notes: "Use of mobile apps. The sum of frappe.train.libfm is that of a file rebuilt from \
                frappe.csv (CARSKit, Mobile_Frappe.zip) with negatives drawn anew: the published one \
                differs and is as good.",
        usage: CTR,
    },
    KnownSet {
        name: "cora",
        task: "gnn",
        size: "2,708 nodes, 5,278 edges, 1,433 features, 7 classes, 140 / 500 / 1,000 nodes",
        terms: "Planetoid's repository is MIT; the set under it states none",
        origin: "https://github.com/kimiyoung/planetoid (data/ind.cora.*)",
        notes: "edges.tsv, nodes.svmlight and split.txt say the same as Planetoid's pickles, as text.",
        usage: GNN,
    },
    KnownSet {
        name: "facebook-pages",
        task: "gnn",
        size: "22,470 nodes, 171,002 edges, 4,714 features, 4 classes",
        terms: "public research set; carried by a GPL-3.0 repository",
        origin: "https://github.com/benedekrozemberczki/MUSAE (input)",
        notes: "edges.csv, features.json and target.csv (Rozemberczki et al. 2021). No official split.",
        usage: GNN,
    },
    KnownSet {
        name: "github-social",
        task: "gnn",
        size: "37,700 nodes, 289,003 edges, 2 classes",
        terms: "public research set; carried by a GPL-3.0 repository",
        origin: "https://github.com/benedekrozemberczki/MUSAE (input)",
        notes: "edges.csv and target.csv; node embeddings are learnt. No official split.",
        usage: GNN,
    },
    KnownSet {
        name: "mnist",
        task: "mlr",
        size: "60,000 / 10,000 images of 28 x 28, 10 classes",
        terms: "public; carried by MIT repositories",
        origin: "https://github.com/rasbt/mnist-pngs, or any mirror of the four IDX files",
        notes: "The four original files (LeCun et al. 1998); those ending in .gz are unpacked when read.",
        usage: MLR,
    },
];
