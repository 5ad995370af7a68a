//! What a failing test shows beside its message: the configuration of each nginx, its error log, and
//! what each server behind it printed, or received and sent. The test runner prints it with the failure.
//!
//! Each of them hands its texts over when it is dropped, also while all is well: a server that is
//! dropped after its nginx can still fail the test.

use std::cell::RefCell;

/// How many bytes of each text are shown: the last ones.
const SHOWN: usize = 16 << 10;

/// The texts of so many are kept until the test ends: of those that were dropped last.
const KEPT: usize = 12;

thread_local! {
    static EARLIER: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Takes texts with their names from a value that is dropped. Prints them at once when the test
/// has failed, with those of before.
pub fn take(texts: &[(&str, &str)]) {
    let shown = texts.iter().map(|(name, text)| section(name, text)).collect::<String>();
    keep(shown);
    if std::thread::panicking() {
        print();
    }
}

/// Prints what was taken, for a failure that is about to be raised.
pub fn print() {
    EARLIER.with_borrow_mut(|earlier| earlier.drain(..).for_each(|text| eprint!("{text}")));
}

fn keep(text: String) {
    EARLIER.with_borrow_mut(|earlier| {
        if earlier.len() == KEPT {
            earlier.remove(0);
        }
        earlier.push(text);
    });
}

fn section(name: &str, text: &str) -> String {
    let (note, from) = match text.len() {
        0..=SHOWN => ("", 0),
        length => (", the end of it", length - SHOWN),
    };
    let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(from);
    format!("---- {name}{note}:\n{}\n", text[from..].trim_end())
}
