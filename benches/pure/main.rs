//! What the pure parts cost: `cargo bench --no-default-features`.

mod chunked;
mod head;
mod names;
mod packet;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    chunked::measure(&mut criterion);
    head::measure(&mut criterion);
    names::measure(&mut criterion);
    packet::measure(&mut criterion);
    criterion.final_summary();
}
