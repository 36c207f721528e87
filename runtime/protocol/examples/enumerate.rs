//! Explores the protocol exhaustively and prints a table: the small settings, or all with `--full`, and
//! what breaks without each rule.

#[path = "../tests/enumeration/mod.rs"]
mod enumeration;

fn main() {
    let full = std::env::args().any(|argument| argument == "--full");
    let settings = if full { enumeration::full() } else { enumeration::quick() };
    let wrong = enumeration::run(&settings)
        .iter()
        .filter(|report| report.broken.is_some() || !report.complete)
        .count();
    println!();
    let unneeded =
        enumeration::run(&enumeration::broken()).iter().filter(|it| it.broken.is_none()).count();
    if wrong + unneeded > 0 {
        eprintln!("{wrong} settings break, {unneeded} rules are not needed");
        std::process::exit(1);
    }
}
