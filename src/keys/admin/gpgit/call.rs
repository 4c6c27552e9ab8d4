//! To which address gpgit encrypts: what the site's Sieve scripts give it, or a script of the site's that they run in its
//! place. Only what is understood to its end counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::dovecot::installation::Installation;
use crate::keystore::source::Template;

/// The program.
const GPGIT: &str = "gpgit";

/// Sieve's commands that run programs, each with Pigeonhole's setting for the folder of its programs.
const COMMANDS: [(&str, &str); 3] = [
    ("filter", "sieve_filter_bin_dir"),
    ("execute", "sieve_execute_bin_dir"),
    ("pipe", "sieve_pipe_bin_dir"),
];

/// The environment's items that are the user's name (`vnd.dovecot.environment`).
const USERNAME: [&str; 2] = ["vnd.dovecot.username", "vnd.dovecot.user"];

/// Largest script that is read, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// How a script calls gpgit.
#[derive(Debug)]
pub struct Call {
    /// The script that does.
    pub script: PathBuf,
    /// The addresses; none where they could not be read out of it.
    pub addresses: Vec<Template>,
}

/// The call of gpgit in the scripts that run before the users', the first where there are several.
#[must_use]
pub fn read(installation: &Installation) -> Option<Call> {
    let folders: BTreeMap<&str, PathBuf> = COMMANDS
        .iter()
        .filter_map(|(command, setting)| {
            Some((*command, installation.sieve_setting("lmtp", setting)?.into()))
        })
        .collect();
    installation.scripts_before().into_iter().find_map(|script| {
        let addresses = in_script(&text(&script)?, &|command, program| {
            let folder = folders.get(command)?;
            text(&folder.join(Path::new(program).file_name()?))
        })?;
        Some(Call { script, addresses })
    })
}

fn text(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The addresses that a Sieve script gives to gpgit; `None` where it does not call it. `program` gives the text of a program that
/// a command names.
fn in_script(text: &str, program: &dyn Fn(&str, &str) -> Option<String>) -> Option<Vec<Template>> {
    let tokens = tokens(text);
    let variables = variables(&tokens);
    let mut called: Option<Vec<Template>> = None;
    for (at, token) in tokens.iter().enumerate() {
        let Token::Word(word) = token else { continue };
        let Some((command, _)) = COMMANDS.iter().find(|(command, _)| command == word) else { continue };
        let strings: Vec<&str> = tokens[at + 1..]
            .iter()
            .take_while(|token| !matches!(token, Token::Mark(';' | '{' | ')')))
            .filter_map(|token| if let Token::Text(text) = token { Some(&**text) } else { None })
            .collect();
        let Some((name, arguments)) = strings.split_first() else { continue };
        let arguments: Vec<Option<String>> =
            arguments.iter().map(|argument| expanded(argument, &variables)).collect();
        let found = if name.rsplit('/').next().is_some_and(|name| name.contains(GPGIT)) {
            addresses(arguments)
        } else {
            let Some(text) = program(command, name) else { continue };
            let Some(words) = in_program(&text, &arguments) else { continue };
            addresses(words)
        };
        // Two calls, of which nobody knows which is whose.
        called = Some(match called {
            Some(other) if other != found => Vec::new(),
            _ => found,
        });
    }
    called
}

/// The addresses among the arguments of gpgit; none where one of its arguments is not understood.
fn addresses(arguments: Vec<Option<String>>) -> Vec<Template> {
    let Some(words) = arguments.into_iter().collect::<Option<Vec<String>>>() else { return Vec::new() };
    let addresses = words.into_iter().filter(|word| !word.starts_with('-') && word.contains(['@', '%']));
    addresses.map(|word| Template::try_from(word).ok()).collect::<Option<_>>().unwrap_or_default()
}

/// The words behind gpgit in a shell script that is given `arguments`; `None` where it does not call it. A word that is not
/// understood is `None`.
fn in_program(text: &str, arguments: &[Option<String>]) -> Option<Vec<Option<String>>> {
    let is_call = |word: &str| {
        word.trim_matches(['"', '\'']).rsplit('/').next().is_some_and(|name| {
            name == GPGIT || name.strip_prefix(GPGIT).is_some_and(|end| end.starts_with('.'))
        })
    };
    let calls: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#') && line.split_whitespace().any(is_call))
        .collect();
    let (line, others) = calls.split_first()?;
    if others.iter().any(|other| other != line) {
        return Some(vec![None]);
    }
    let words = line.split_whitespace().skip_while(|word| !is_call(word)).skip(1);
    let words =
        words.take_while(|word| !word.starts_with(['|', '<', '>', ';', '&']) && !word.starts_with("2>"));
    Some(words.map(|word| shell_word(word.trim_end_matches(';'), arguments)).collect())
}

/// A word of a shell script with its variables: the arguments, and the names of the user that Pigeonhole puts into the environment.
fn shell_word(word: &str, arguments: &[Option<String>]) -> Option<String> {
    let mut out = String::new();
    let mut rest = word.trim_matches(['"', '\'']);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(&literal(before)?);
        let (name, behind) = match after.strip_prefix('{') {
            Some(after) => after.split_once('}')?,
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '@');
                let end = if after.starts_with(|c: char| c.is_ascii_digit()) {
                    1
                } else {
                    end.unwrap_or(after.len())
                };
                // An address goes on behind the name.
                let end = after[..end].find('@').filter(|at| *at > 0).unwrap_or(end);
                after.split_at(end)
            }
        };
        out.push_str(&match name {
            "USER" | "LOGNAME" => "%{user}".to_owned(),
            "@" if arguments.len() == 1 => arguments[0].clone()?,
            number => {
                let number: usize = number.parse().ok().filter(|number| *number > 0)?;
                arguments.get(number - 1)?.clone()?
            }
        });
        rest = behind;
    }
    out.push_str(&literal(rest)?);
    Some(out)
}

/// Text without what a shell would look into, and without what means something in a template.
fn literal(text: &str) -> Option<String> {
    (!text.contains(['`', '\\', '%', '"', '\'', '(', ')', '*', '?'])).then(|| text.to_owned())
}

/// A piece of a Sieve script.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// A command, test or tag, in lower case.
    Word(String),
    /// A string.
    Text(String),
    /// Anything else.
    Mark(char),
}

/// The pieces of a script without its comments (RFC 5228, section 8.1).
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = rest.trim_start();
        } else if first == '#' {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(after) = rest.strip_prefix("/*") {
            rest = after.split_once("*/").map_or("", |(_, after)| after);
        } else if let Some(after) = rest.strip_prefix('"') {
            let (string, behind) = quoted(after);
            tokens.push(Token::Text(string));
            rest = behind;
        } else if first.is_ascii_alphanumeric() || first == ':' || first == '_' {
            let end = rest[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
            let (word, behind) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
            let word = word.to_ascii_lowercase();
            if word == "text:" {
                // Lines up to one with a dot alone.
                let end =
                    behind.find("\n.\n").map(|at| at + 3).or_else(|| behind.find("\n.\r\n").map(|at| at + 4));
                tokens.push(Token::Text(String::new()));
                rest = &behind[end.unwrap_or(behind.len())..];
            } else {
                tokens.push(Token::Word(word));
                rest = behind;
            }
        } else {
            tokens.push(Token::Mark(first));
            rest = &rest[first.len_utf8()..];
        }
    }
    tokens
}

/// The string that begins `text` behind its first quotation mark, and what follows it.
fn quoted(text: &str) -> (String, &str) {
    let mut string = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (string, &text[at + 1..]),
            '\\' => string.extend(chars.next().map(|(_, c)| c)),
            c => string.push(c),
        }
    }
    (string, "")
}

/// What a script's variables hold, as far as it says so: those that are set to the user's name, or put together from it. A
/// variable that is set more than once to different values is not known.
fn variables(tokens: &[Token]) -> BTreeMap<String, Option<String>> {
    let mut variables: BTreeMap<String, Option<String>> = BTreeMap::new();
    for item in USERNAME {
        variables.insert(format!("env.{item}"), Some("%{user}".into()));
    }
    let strings = |from: usize| {
        tokens[from..].iter().take_while(|token| !matches!(token, Token::Mark(';' | '{'))).filter_map(
            |token| {
                if let Token::Text(text) = token { Some(&**text) } else { None }
            },
        )
    };
    let mut matched: Vec<Option<String>> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Token::Word(word) = token else { continue };
        let is_match = tokens[at + 1..].iter().take(2).any(|next| *next == Token::Word(":matches".into()));
        match &**word {
            "environment" if is_match => {
                let tested: Vec<&str> = strings(at).collect();
                matched = match tested.as_slice() {
                    [item, "*"] if USERNAME.contains(item) => vec![Some("%{user}".into()); 2],
                    [item, "*@*"] if USERNAME.contains(item) => {
                        ["%{user}", "%{local}", "%{domain}"].map(|it| Some(it.into())).to_vec()
                    }
                    _ => Vec::new(),
                };
            }
            _ if is_match => matched = Vec::new(),
            "set" => {
                let set: Vec<&str> = strings(at).collect();
                let [name, value] = set.as_slice() else { continue };
                for (number, value) in matched.iter().enumerate() {
                    variables.insert(number.to_string(), value.clone());
                }
                let plain = !matches!(tokens.get(at + 1), Some(Token::Word(_)));
                let value = if plain { expanded(value, &variables) } else { None };
                let known = variables.entry(name.to_ascii_lowercase()).or_insert_with(|| value.clone());
                if *known != value {
                    *known = None;
                }
            }
            _ => {}
        }
    }
    (0..10).for_each(|number| _ = variables.remove(&number.to_string()));
    for (number, value) in matched.into_iter().enumerate() {
        variables.insert(number.to_string(), value);
    }
    variables
}

/// A string of Sieve with its variables put in (RFC 5229, section 3); `None` where one is not known.
fn expanded(text: &str, variables: &BTreeMap<String, Option<String>>) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) = after.split_once('}')?;
        if before.contains('%') {
            return None;
        }
        out.push_str(before);
        out.push_str(variables.get(&name.to_ascii_lowercase())?.as_deref()?);
        rest = behind;
    }
    if rest.contains('%') {
        return None;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::user::User;

    /// What the script gives to gpgit for Alice; `encrypt.sh` is `program`.
    fn given(script: &str, program: &str) -> Option<Vec<String>> {
        let alice = User::parse("alice@example.org").unwrap();
        let read = |_: &str, name: &str| (name == "encrypt.sh").then(|| program.to_owned());
        let templates = in_script(script, &read)?;
        Some(templates.iter().map(|it| it.expand(&alice, None).unwrap()).collect())
    }

    #[test]
    fn the_address_is_read_out_of_the_call() {
        const SET: &str =
            "if environment :matches \"vnd.dovecot.username\" \"*\" { set \"user\" \"${1}\"; }\n";
        let plain = "alice@example.org";
        for (script, expected) in [
            ("filter \"gpgit\" \"alice@example.org\";", plain),
            ("filter \"gpgit\" \"${env.vnd.dovecot.username}\";", plain),
            ("filter \"gpgit\" [\"--encrypt-mode\", \"pgpmime\", \"${env.vnd.dovecot.username}\"];", plain),
            ("FILTER :try \"gpgit.pl\" \"${ENV.vnd.dovecot.username}\";", plain),
            (
                &format!(
                    "{SET}filter \"gpgit\" [\"--encrypt-mode\", \"pgpmime\", \"${{user}}@mail.example\"];"
                ),
                "alice@example.org@mail.example",
            ),
            (
                "if environment :matches \"vnd.dovecot.username\" \"*@*\" { set \"a\" \"${1}@x.example\"; }\n/* c */ execute \"/x/gpgit\" \"${a}\";",
                "alice@x.example",
            ),
            ("# filter \"gpgit\" \"x@y\";\nif not filter \"gpgit\" \"alice@example.org\" { stop; }", plain),
        ] {
            assert_eq!(given(script, ""), Some(vec![expected.to_owned()]), "{script}");
        }
        let two = "filter \"gpgit\" [\"alice@example.org\", \"bob@example.org\"];";
        assert_eq!(given(two, "").unwrap().len(), 2);
    }

    #[test]
    fn a_program_that_calls_gpgit_is_read_too() {
        let script = "filter \"encrypt.sh\" [\"${env.vnd.dovecot.username}\"];";
        for program in [
            "#!/bin/sh\n# gpgit of old\nexec /usr/bin/gpgit --encrypt-mode pgpmime \"$1\" 2>/dev/null\n",
            "gpgit $USER",
            "HOME=/home/$1 /opt/gpgit.pl \"${1}\" <&0",
            "gpgit \"$@\";",
        ] {
            assert_eq!(given(script, program), Some(vec!["alice@example.org".into()]), "{program}");
        }
        assert_eq!(
            given(script, "gpgit \"$1@mail.example\""),
            Some(vec!["alice@example.org@mail.example".into()])
        );
        assert_eq!(given(script, "gpgit $USER@x.example"), Some(vec!["alice@example.org@x.example".into()]));
        assert_eq!(given(script, "#!/bin/sh\n# gpgit\ncat"), None);
        for unknown in [
            "gpgit \"$(id -un)@x\"",
            "gpgit `id -un`@x",
            "gpgit $RECIPIENT",
            "gpgit $2",
            "gpgit a@x\ngpgit b@x",
        ] {
            assert_eq!(given(script, unknown), Some(vec![]), "{unknown}");
        }
    }

    #[test]
    fn what_is_not_understood_is_no_address() {
        for script in [
            "filter \"gpgit\" \"${to}\";",
            "if envelope :matches \"to\" \"*\" { set \"to\" \"${1}\"; } filter \"gpgit\" \"${to}\";",
            "set \"a\" \"x@y\"; set \"a\" \"z@y\"; filter \"gpgit\" \"${a}\";",
            "set :lower \"a\" \"x@y\"; filter \"gpgit\" \"${a}\";",
            "filter \"gpgit\" \"x@y\"; filter \"gpgit\" \"z@y\";",
            "filter \"gpgit\" \"%n@y\";",
            "filter \"gpgit\";",
            "filter \"gpgit",
            "filter \"gpgit\" \"${\";",
        ] {
            assert_eq!(given(script, ""), Some(vec![]), "{script}");
        }
        for script in [
            "",
            "filter \"mailseal-filter\" \"--user\";",
            "keep;",
            "filter",
            "set \"gpgit\" \"gpgit\";",
            "text:\nfilter \"gpgit\"\n.\n",
            "/* filter \"gpgit\" \"x@y\";",
        ] {
            assert_eq!(given(script, ""), None, "{script}");
        }
    }
}
