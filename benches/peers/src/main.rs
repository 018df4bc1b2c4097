//! ebbtide beside what one would use instead.

mod peer;
mod peers;

fn main() {
    for contestant in peers::all() {
        println!("{}", contestant.name);
    }
}
