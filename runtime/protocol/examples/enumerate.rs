//! Explores the protocol exhaustively and prints tables: the settings of the tests, with `--full` longer
//! ones as well (three minutes, 3 GiB), and what breaks without each rule.

#[path = "../tests/enumeration/mod.rs"]
mod enumeration;
#[path = "../tests/pairs/mod.rs"]
mod pairs;

fn main() {
    let (mut settings, mut pairs) = (enumeration::settings(), pairs::settings());
    if std::env::args().any(|argument| argument == "--full") {
        settings.extend(enumeration::large());
        pairs.extend(pairs::large());
    }
    let wrong = enumeration::run(&settings).iter().filter(|report| report.broken.is_some()).count();
    println!("\ntwo keys, and two workers of a node");
    let wrong = wrong + pairs::run(&pairs).iter().filter(|outcome| outcome.is_err()).count();
    let unneeded = usize::from(pairs::explore(&pairs::broken()).is_ok());
    println!();
    let unneeded = unneeded
        + enumeration::run(&enumeration::broken()).iter().filter(|it| it.broken.is_none()).count();
    if wrong + unneeded > 0 {
        eprintln!("{wrong} settings break, {unneeded} rules are not needed");
        std::process::exit(1);
    }
}
