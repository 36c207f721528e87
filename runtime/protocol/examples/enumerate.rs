//! Explores the protocol exhaustively and prints tables: the settings of the tests, with `--full` longer
//! ones as well (a minute, up to 4 GiB), and what breaks without each rule.

#[path = "../tests/enumeration/mod.rs"]
mod enumeration;

fn main() {
    let mut settings = enumeration::settings();
    if std::env::args().any(|argument| argument == "--full") {
        settings.extend(enumeration::large());
    }
    let wrong = enumeration::run(&settings).iter().filter(|report| report.broken.is_some()).count();
    println!();
    let unneeded =
        enumeration::run(&enumeration::broken()).iter().filter(|it| it.broken.is_none()).count();
    if wrong + unneeded > 0 {
        eprintln!("{wrong} settings break, {unneeded} rules are not needed");
        std::process::exit(1);
    }
}
