//! Writes tools with random code inside: `smith FOLDER FIRST COUNT` makes `FOLDER/<number>.wasm` of each number.
//!
//! `tests/oracle` runs them in our engines and in another one.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(first), Some(count)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: smith FOLDER FIRST COUNT".into());
    };
    let (folder, first, count) = (PathBuf::from(folder), first.parse::<u64>()?, count.parse::<u64>()?);
    for number in first..first + count {
        std::fs::write(folder.join(format!("{number}.wasm")), capsa_fuzz::smith::numbered(number))?;
    }
    Ok(())
}
