//! `sterna data`: the data sets of the field, where to get them, and whether a copy is right.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use sterna_tasks::known::{KnownSet, State};

/// The data sets of the field: list them, say where to get one, check a copy.
///
/// Most may not be passed on, so they do not come with this program; it knows their sums.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sterna data                            all sets
  sterna data show FB15k-237             terms, origin, files
  sterna data check ~/data/FB15k-237     are these the files of published figures?")]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List all sets (so does `sterna data` alone).
    List,
    /// Say all that is known of a set.
    Show {
        /// Its name, as listed.
        name: String,
    },
    /// Compare a folder's files, plain or packed, with those known.
    Check {
        /// The folder.
        folder: PathBuf,

        /// The set it should be; found by the files' names if not given.
        #[arg(long, value_name = "NAME")]
        set: Option<String>,
    },
}

/// Runs the command.
pub(crate) fn run(args: &DataArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        None | Some(What::List) => list(),
        Some(What::Show { name }) => show(by_name(name)?),
        Some(What::Check { folder, set }) => return check(folder, set.as_deref()),
    }
    Ok(ExitCode::SUCCESS)
}

fn by_name(name: &str) -> anyhow::Result<&'static KnownSet> {
    let names = || KnownSet::all().iter().map(|set| set.name).collect::<Vec<_>>().join(", ");
    KnownSet::by_name(name).with_context(|| format!("no set `{name}` is known: {}", names()))
}

fn list() {
    let width = KnownSet::all().iter().map(|set| set.name.len()).max().unwrap_or(0);
    for set in KnownSet::all() {
        println!("{:6} {:width$}  {}", set.task, set.name, set.size);
        println!("{:6} {:width$}  {}", "", "", set.terms);
    }
    println!(
        "\n`sterna data show NAME` says where to get one, `sterna data check DIR` checks a copy."
    );
}

fn show(set: &KnownSet) {
    println!("{} ({})\n  {}\n", set.name, set.task, set.size);
    println!(
        "terms   {}\norigin  {}\nuse     {}\n\n{}\n",
        set.terms, set.origin, set.usage, set.notes
    );
    for file in set.files() {
        println!("{:>12} bytes  {}  {}", file.bytes, file.sha256, file.path);
    }
}

fn check(folder: &Path, name: Option<&str>) -> anyhow::Result<ExitCode> {
    let folder = folder.canonicalize().with_context(|| format!("reading {}", folder.display()))?;
    let set = match name {
        Some(name) => by_name(name)?,
        None => match KnownSet::in_folder(&folder) {
            Some(set) => set,
            None => {
                bail!("{} has no file of a known set; `sterna data` lists them", folder.display())
            }
        },
    };
    println!("{} against the known {}:", folder.display(), set.name);
    let checked = set.check(&folder)?;
    for one in &checked {
        let verdict = match one.state {
            State::Same => "the same".into(),
            State::Missing => "missing".into(),
            State::Differs { line_ends: true, .. } => {
                "the same but for line ends of Windows, which loaders accept".into()
            }
            State::Differs { bytes, .. } => {
                format!("DIFFERS ({bytes} bytes, not {})", one.file.bytes)
            }
        };
        println!("  {:24} {verdict}", one.file.path);
    }
    let same = checked.iter().filter(|one| one.state == State::Same).count();
    println!("{same} of {} files are the same", checked.len());
    Ok(if same == checked.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
