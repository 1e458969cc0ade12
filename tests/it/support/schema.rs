//! Whether an answer is as the OpenAPI document has it. Knows the words of JSON Schema that stand in ours,
//! and refuses any other, so that none is passed over.

use serde_json::Value;

/// The document.
pub(crate) struct Document(Value);

impl Document {
    pub(crate) fn new(document: Value) -> Self {
        Self(document)
    }

    /// Panics if the answer of an operation (method, path, status) is not as it should be.
    pub(crate) fn check(&self, (method, path, status): (&str, &str, u16), answer: &Value) {
        let responses = &self.0["paths"][path][method]["responses"];
        let response = self.resolve(&responses[status.to_string()]);
        let schema = &response["content"]["application/json"]["schema"];
        assert!(
            schema.is_object(),
            "{method} {path} {status} is not in the document"
        );
        if let Err(wrong) = self.fits(answer, schema) {
            panic!("{method} {path} {status}: {wrong} in {answer:#}");
        }
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => {
                let part = self.0.pointer(reference.trim_start_matches('#'));
                self.resolve(part.expect(reference))
            }
            None => value,
        }
    }

    fn fits(&self, value: &Value, schema: &Value) -> Result<(), String> {
        for (word, says) in schema.as_object().expect("a schema") {
            match word.as_str() {
                "$ref" => self.fits(value, self.resolve(schema))?,
                "type" => {
                    let types = says
                        .as_array()
                        .map_or(std::slice::from_ref(says), Vec::as_slice);
                    if !types
                        .iter()
                        .any(|it| is(value, it.as_str().expect("a type")))
                    {
                        return Err(format!("{value} is no {says}"));
                    }
                }
                "enum" => {
                    if !says.as_array().expect("a list").contains(value) {
                        return Err(format!("{value} is none of {says}"));
                    }
                }
                "const" => {
                    if value != says {
                        return Err(format!("{value} is not {says}"));
                    }
                }
                "minimum" => {
                    // What is no number is said by the type.
                    if value.is_number() && value.as_f64() < says.as_f64() {
                        return Err(format!("{value} is less than {says}"));
                    }
                }
                "required" => {
                    for key in says.as_array().expect("a list") {
                        if value.is_object() && value.get(key.as_str().expect("a key")).is_none() {
                            return Err(format!("{key} is missing"));
                        }
                    }
                }
                "properties" => {
                    for (key, schema) in says.as_object().expect("properties") {
                        if let Some(value) = value.get(key) {
                            let said = self.fits(value, schema);
                            said.map_err(|wrong| format!("{key}: {wrong}"))?;
                        }
                    }
                }
                "items" => {
                    for item in value.as_array().into_iter().flatten() {
                        self.fits(item, says)?;
                    }
                }
                "oneOf" => {
                    let all = says.as_array().expect("a list").iter();
                    let fitting = all.filter(|it| self.fits(value, it).is_ok()).count();
                    if fitting != 1 {
                        return Err(format!("{value} fits {fitting} of {says}"));
                    }
                }
                "allOf" => {
                    for schema in says.as_array().expect("a list") {
                        self.fits(value, schema)?;
                    }
                }
                "additionalProperties" => {
                    let known = schema["properties"].as_object();
                    for (key, value) in value.as_object().into_iter().flatten() {
                        if known.is_some_and(|known| known.contains_key(key)) {
                            continue;
                        }
                        match says.as_bool() {
                            Some(false) => return Err(format!("{key} is not known")),
                            Some(true) => {}
                            None => self.fits(value, says)?,
                        }
                    }
                }
                "description" | "format" | "examples" | "pattern" | "default" => {}
                unknown => return Err(format!("this test does not know {unknown}")),
            }
        }
        Ok(())
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        unknown => panic!("no type: {unknown}"),
    }
}
