//! What the commands that measure can be told.

use std::path::PathBuf;

use crate::peer::Result;

/// Options of `run` and `growth`.
pub struct Options<'a> {
    pub full: bool,
    pub rounds: Option<usize>,
    pub out: Option<PathBuf>,
    works: Option<&'a str>,
    /// What is not an option.
    pub names: Vec<&'a str>,
}

impl<'a> Options<'a> {
    pub fn parse(words: &[&'a str]) -> Result<Self> {
        let mut options =
            Self { full: false, rounds: None, out: None, works: None, names: Vec::new() };
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let mut value = || rest.next().copied().ok_or(format!("{word}: what?"));
            match *word {
                "--full" => options.full = true,
                "--rounds" => options.rounds = Some(value()?.parse()?),
                "--out" => options.out = Some(PathBuf::from(value()?)),
                "--work" => options.works = Some(value()?),
                option if option.starts_with('-') => {
                    return Err(format!("{option}: no such option").into());
                }
                name => options.names.push(name),
            }
        }
        Ok(options)
    }

    /// The works that are to be run: all, unless some are named.
    pub fn works<T>(
        &self,
        all: &'static [T],
        name: impl Fn(&T) -> &str,
    ) -> Result<Vec<&'static T>> {
        let Some(wanted) = self.works else { return Ok(all.iter().collect()) };
        let find = |wanted: &str| {
            let found = all.iter().find(|work| name(work) == wanted);
            found.ok_or_else(|| format!("no such work: {wanted}").into())
        };
        wanted.split(',').map(find).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_apart() {
        let options = Options::parse(&["--rounds", "3", "lmdb", "--work", "b,a"]).unwrap();
        assert_eq!(
            (options.rounds, options.full, options.names.as_slice()),
            (Some(3), false, &["lmdb"][..])
        );
        static ALL: [&str; 3] = ["a", "b", "c"];
        assert_eq!(options.works(&ALL, |name| name).unwrap(), [&"b", &"a"]);
        assert!(options.works(&ALL[..1], |name| name).is_err());
        assert!(Options::parse(&["--sideways"]).is_err());
        assert!(Options::parse(&["--rounds"]).is_err());
    }
}
