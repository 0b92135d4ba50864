//! A regular expression as Prometheus understands it (RE2) -> one for the `regex` crate.
//!
//! Source: github.com/google/re2/wiki/Syntax and Go's `regexp/syntax` with its `Perl` flags, which
//! is what Prometheus compiles relabelling expressions with. The two dialects look alike and
//! differ in detail: in RE2 `\d \w \s \b` are ASCII and `\s` has no vertical tab; octal escapes
//! and `\Q...\E` exist; `{`, `[` in a class, `&&` and `--` are plain characters; the flags `x`,
//! `u` and `R` don't exist; stacked repetitions are errors. So the text is read by RE2's grammar
//! and written again in a form that means the same in both.
//!
//! Not here: RE2's limits on the size of nested repetitions (`regex` has its own limit), and its
//! refusal of property names that `regex` knows beyond RE2's.

use std::fmt::Write as _;

/// A translated expression.
#[derive(Debug)]
pub(super) struct Translated {
    /// For the `regex` crate, in its default mode. All capture groups are unnamed.
    pub(super) pattern: String,
    /// Names of the capture groups; `[0]` is the whole match and never named.
    pub(super) group_names: Vec<Option<String>>,
}

/// Largest count in `{n,m}`, as in RE2.
const REPEAT_MAX: u32 = 1000;

/// Names allowed in `[[:name:]]`.
const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// Reads `source` by RE2's grammar.
///
/// # Errors
/// What is wrong, with the offending part.
pub(super) fn translate(source: &str) -> Result<Translated, String> {
    let mut translator = Translator {
        source,
        at: 0,
        out: String::with_capacity(source.len() + 16),
        group_names: vec![None],
        depth: 0,
        last: Last::Nothing,
    };
    translator.run()?;
    Ok(Translated {
        pattern: translator.out,
        group_names: translator.group_names,
    })
}

/// What a repetition operator at this place would apply to.
#[derive(Clone, Copy, PartialEq)]
enum Last {
    Nothing,
    Atom,
    Repetition,
}

struct Translator<'a> {
    source: &'a str,
    at: usize,
    out: String,
    group_names: Vec<Option<String>>,
    depth: usize,
    last: Last,
}

impl<'a> Translator<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(next) = self.next() {
            match next {
                '(' => self.open_group()?,
                ')' => {
                    if self.depth == 0 {
                        return Err("unexpected )".into());
                    }
                    self.depth -= 1;
                    self.atom(")");
                }
                '|' => {
                    self.out.push('|');
                    self.last = Last::Nothing;
                }
                '.' => self.atom("."),
                '^' => self.atom("^"),
                '$' => self.atom("$"),
                '[' => self.class()?,
                '*' | '+' | '?' => self.repetition(next.to_string())?,
                '{' => match self.counts()? {
                    Some(counts) => self.repetition(counts)?,
                    None => self.literal('{'),
                },
                '\\' => self.escape_outside_class()?,
                other => self.literal(other),
            }
        }
        if self.depth > 0 {
            return Err("missing closing )".into());
        }
        Ok(())
    }

    fn atom(&mut self, text: &str) {
        self.out.push_str(text);
        self.last = Last::Atom;
    }

    fn literal(&mut self, value: char) {
        let mut buffer = [0; 4];
        regex_syntax::escape_into(value.encode_utf8(&mut buffer), &mut self.out);
        self.last = Last::Atom;
    }

    /// After `(`.
    fn open_group(&mut self) -> Result<(), String> {
        if !self.eat("?") {
            self.group_names.push(None);
            return self.begin_group("(");
        }
        if self.eat("P<") || self.eat("<") {
            let Some((name, _)) = self.rest().split_once('>') else {
                return Err("invalid named capture: missing >".into());
            };
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_word) {
                return Err(format!(
                    "invalid named capture: {name:?} is not a group name"
                ));
            }
            let name = Some(name.to_owned());
            if self.group_names.contains(&name) {
                return Err(format!(
                    "duplicate capture group name {:?}",
                    name.as_deref()
                ));
            }
            self.at += name.as_ref().map_or(0, String::len) + 1;
            self.group_names.push(name);
            return self.begin_group("(");
        }
        self.flags()
    }

    fn begin_group(&mut self, text: &str) -> Result<(), String> {
        self.depth += 1;
        self.out.push_str(text);
        self.last = Last::Nothing;
        Ok(())
    }

    /// After `(?`: `flags)`, or `flags:` and a group.
    fn flags(&mut self) -> Result<(), String> {
        let start = self.at;
        let unsupported = |end: usize| {
            let text = &self.source[start..end];
            Err(format!("invalid or unsupported Perl syntax: (?{text}"))
        };
        // For i, m, s, U: set, cleared, or untouched.
        let mut state: [Option<bool>; 4] = [None; 4];
        let (mut value, mut saw_flag) = (true, false);
        for (offset, next) in self.source[start..].char_indices() {
            let end = start + offset + next.len_utf8();
            match next {
                'i' | 'm' | 's' | 'U' => {
                    let index = "imsU".find(next).unwrap_or(0);
                    state[index] = Some(value);
                    saw_flag = true;
                }
                '-' if value => (value, saw_flag) = (false, false),
                ':' | ')' if value || saw_flag => {
                    self.at = end;
                    let text = flags_text(&state);
                    if next == ':' {
                        return self.begin_group(&format!("(?{text}:"));
                    }
                    if !text.is_empty() {
                        let _ = write!(self.out, "(?{text})");
                    }
                    return Ok(());
                }
                _ => return unsupported(end),
            }
        }
        unsupported(self.source.len())
    }

    /// After `{`: the text `{n,m}` if this is a repetition; else nothing is consumed.
    fn counts(&mut self) -> Result<Option<String>, String> {
        let Some((inside, _)) = self.rest().split_once('}') else {
            return Ok(None);
        };
        let (low, high) = match inside.split_once(',') {
            Some((low, high)) => (low, Some(high)),
            None => (inside, None),
        };
        let is_count = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_digit())
                && (text.len() == 1 || !text.starts_with('0'))
        };
        if !is_count(low) || high.is_some_and(|high| !high.is_empty() && !is_count(high)) {
            return Ok(None);
        }
        let text = format!("{{{inside}}}");
        let too_big = || format!("invalid repeat count: {text}");
        let parse = |digits: &str| match digits.parse::<u32>() {
            Ok(count) if count <= REPEAT_MAX => Ok(count),
            _ => Err(too_big()),
        };
        let from = parse(low)?;
        if let Some(high) = high.filter(|high| !high.is_empty())
            && parse(high)? < from
        {
            return Err(too_big());
        }
        self.at += inside.len() + 1;
        Ok(Some(text))
    }

    fn repetition(&mut self, operator: String) -> Result<(), String> {
        match self.last {
            Last::Nothing => {
                return Err(format!(
                    "missing argument to repetition operator: {operator}"
                ));
            }
            Last::Repetition => {
                return Err(format!("invalid nested repetition operator: {operator}"));
            }
            Last::Atom => {}
        }
        self.out.push_str(&operator);
        if self.eat("?") {
            self.out.push('?');
        }
        self.last = Last::Repetition;
        Ok(())
    }

    /// After `\`.
    fn escape_outside_class(&mut self) -> Result<(), String> {
        match self.peek() {
            Some('A') => self.fixed_escape(r"\A"),
            Some('z') => self.fixed_escape(r"\z"),
            Some('b') => self.fixed_escape(r"(?-u:\b)"),
            Some('B') => self.fixed_escape(r"(?-u:\B)"),
            Some('C') => {
                return Err(r"\C (any byte) is not supported: use . for any character".into());
            }
            Some('Q') => {
                self.at += 1;
                let text = match self.rest().split_once(r"\E") {
                    Some((text, _)) => {
                        self.at += text.len() + 2;
                        text
                    }
                    None => {
                        let text = self.rest();
                        self.at = self.source.len();
                        text
                    }
                };
                text.chars().for_each(|next| self.literal(next));
            }
            Some('p' | 'P') => {
                let class = self.unicode_class()?;
                self.atom(&class);
            }
            Some(class) if perl_class(class).is_some() => {
                self.at += 1;
                let (negated, items) = perl_class(class).unwrap_or_default();
                let text = format!("[{}{items}]", if negated { "^" } else { "" });
                self.atom(&text);
            }
            _ => {
                let value = self.character_escape()?;
                self.literal(value);
            }
        }
        Ok(())
    }

    fn fixed_escape(&mut self, text: &str) {
        self.at += 1;
        self.atom(text);
    }

    /// At `p` or `P` after a `\`: `\pN`, `\p{Name}`, `\p{^Name}`.
    fn unicode_class(&mut self) -> Result<String, String> {
        let mut negated = self.next() == Some('P');
        let name = if self.eat("{") {
            let Some((name, _)) = self.rest().split_once('}') else {
                return Err(r"invalid character class range: \p{ without }".into());
            };
            self.at += name.len() + 1;
            name
        } else {
            let rest = self.rest();
            let Some(name) = self.next() else {
                return Err(r"invalid character class range: \p without a name".into());
            };
            &rest[..name.len_utf8()]
        };
        let name = match name.strip_prefix('^') {
            Some(name) => {
                negated = !negated;
                name
            }
            None => name,
        };
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || !name.bytes().all(is_word) {
            return Err(format!(r"invalid character class range: \p{{{name}}}"));
        }
        Ok(format!(r"\{}{{{name}}}", if negated { 'P' } else { 'p' }))
    }

    /// After a `\` that is no class: one character. Source: Go regexp/syntax `parser.escape`.
    fn character_escape(&mut self) -> Result<char, String> {
        let start = self.at - 1;
        let Some(next) = self.next() else {
            return Err(r"trailing backslash at end of expression".into());
        };
        let code = match next {
            // A single digit is a back reference, which RE2 doesn't have.
            '1'..='7' if !matches!(self.peek(), Some('0'..='7')) => None,
            '0'..='7' => {
                let mut code = next.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    self.at += 1;
                    code = code * 8 + digit;
                }
                Some(code)
            }
            'x' => self.hex_escape(),
            'a' => Some(0x07),
            'f' => Some(0x0c),
            'n' => Some(0x0a),
            'r' => Some(0x0d),
            't' => Some(0x09),
            'v' => Some(0x0b),
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => Some(other as u32),
            _ => None,
        };
        let text = &self.source[start..self.at];
        code.and_then(char::from_u32)
            .ok_or_else(|| format!("invalid escape sequence: {text}"))
    }

    /// After `\x`: two digits or `{digits}`.
    fn hex_escape(&mut self) -> Option<u32> {
        let digits = if self.eat("{") {
            let (digits, _) = self.rest().split_once('}')?;
            self.at += digits.len() + 1;
            digits
        } else {
            let digits = self.rest().get(..2)?;
            self.at += 2;
            digits
        };
        let is_hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        is_hex
            .then(|| u32::from_str_radix(digits, 16).ok())
            .flatten()
    }

    /// After `[`.
    fn class(&mut self) -> Result<(), String> {
        const MISSING: &str = "missing closing ]";
        let mut text = String::from("[");
        if self.eat("^") {
            text.push('^');
        }
        let mut first = true;
        loop {
            let rest = self.rest();
            if rest.is_empty() {
                return Err(MISSING.into());
            }
            if !first && self.eat("]") {
                break;
            }
            first = false;
            if rest.starts_with("[:")
                && let Some((name, _)) = rest[2..].split_once(":]")
            {
                if !POSIX_CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) {
                    return Err(format!("invalid character class range: [:{name}:]"));
                }
                self.at += name.len() + 4;
                let _ = write!(text, "[:{name}:]");
                continue;
            }
            if rest.starts_with(r"\p") || rest.starts_with(r"\P") {
                self.at += 1;
                text.push_str(&self.unicode_class()?);
                continue;
            }
            if rest.starts_with('\\')
                && let Some(class) = rest[1..].chars().next()
                && let Some((negated, items)) = perl_class(class)
            {
                self.at += 2;
                let _ = write!(text, "[{}{items}]", if negated { "^" } else { "" });
                continue;
            }
            let low = self.class_character()?;
            let range = self.rest();
            let high = if range.starts_with('-') && !range.starts_with("-]") && range.len() > 1 {
                self.at += 1;
                self.class_character()?
            } else {
                low
            };
            if high < low {
                return Err(format!("invalid character class range: {low}-{high}"));
            }
            let _ = write!(text, r"\x{{{:x}}}", low as u32);
            if high > low {
                let _ = write!(text, r"-\x{{{:x}}}", high as u32);
            }
        }
        text.push(']');
        self.atom(&text);
        Ok(())
    }

    fn class_character(&mut self) -> Result<char, String> {
        match self.next() {
            None => Err("missing closing ]".into()),
            Some('\\') => self.character_escape(),
            Some(other) => Ok(other),
        }
    }
}

/// `\d`, `\s`, `\w` and their opposites: whether negated, and the characters as class items.
fn perl_class(name: char) -> Option<(bool, &'static str)> {
    let items = match name.to_ascii_lowercase() {
        'd' => "0-9",
        's' => r"\t\n\x0c\r ",
        'w' => "0-9A-Za-z_",
        _ => return None,
    };
    Some((name.is_ascii_uppercase(), items))
}

fn flags_text(state: &[Option<bool>; 4]) -> String {
    let pick = |wanted: bool| {
        let flags = "imsU".chars().zip(state);
        flags
            .filter(move |(_, set)| **set == Some(wanted))
            .map(|(flag, _)| flag)
    };
    let mut text: String = pick(true).collect();
    let off: String = pick(false).collect();
    if !off.is_empty() {
        let _ = write!(text, "-{off}");
    }
    text
}
