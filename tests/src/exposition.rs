//! Text exposition 0.0.4 -> its samples, the plain way; an oracle of few lines.
//!
//! It reads what well-behaved exporters write and refuses the rest, which is what an oracle needs.

/// One sample line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Metric name.
    pub name: String,
    /// Labels sorted by name; empty values left out, since they mean no label.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: f64,
}

/// Reads a whole body.
///
/// # Errors
/// Names the first line that is not understood.
pub fn parse(body: &str) -> Result<Vec<Line>, String> {
    body.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| parse_line(line).ok_or_else(|| format!("cannot read {line:?}")))
        .collect()
}

fn parse_line(line: &str) -> Option<Line> {
    let (name, labels, rest) = match line.find('{') {
        Some(brace) => {
            let (labels, rest) = parse_labels(&line[brace + 1..])?;
            (&line[..brace], labels, rest)
        }
        None => {
            let (name, rest) = line.split_once(' ')?;
            (name, Vec::new(), rest)
        }
    };
    let value = rest.split_whitespace().next()?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().ok()?,
    };
    Some(Line {
        name: name.to_owned(),
        labels,
        value,
    })
}

fn parse_labels(mut text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            labels.retain(|(_, value): &(String, String)| !value.is_empty());
            labels.sort();
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
        text = &rest[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_order_and_empty_values() {
        let lines =
            parse("# HELP x y\nx{b=\"1\\\"\\\\\\n\",a=\"}\",c=\"\"} 2 17\ny +Inf\n").unwrap();
        let labels = vec![("a".into(), "}".into()), ("b".into(), "1\"\\\n".into())];
        assert_eq!(
            lines[0],
            Line {
                name: "x".into(),
                labels,
                value: 2.0
            }
        );
        assert_eq!(lines[1].value, f64::INFINITY);
    }

    #[test]
    fn a_line_without_value_is_refused() {
        assert!(parse("x\n").is_err());
        assert!(parse("x{a=\"b\"}\n").is_err());
    }
}
