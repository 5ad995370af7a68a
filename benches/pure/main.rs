//! What the pure parts cost: `cargo bench --no-default-features`.

mod names;
mod packet;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    names::measure(&mut criterion);
    packet::measure(&mut criterion);
    criterion.final_summary();
}
