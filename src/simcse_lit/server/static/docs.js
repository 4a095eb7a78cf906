// Shows /openapi.json: every endpoint with its fields, and a command that calls it.

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const described = await (await fetch("/openapi.json")).json();

const resolve = (schema) =>
  schema?.$ref ? described.components.schemas[schema.$ref.split("/").pop()] : (schema ?? {});

function typeName(schema) {
  if (schema.$ref) return `{${Object.keys(resolve(schema).properties).join(", ")}}`;
  if (schema.anyOf) return schema.anyOf.map(typeName).join(" or ");
  if (schema.type === "array") return `list of ${typeName(schema.items ?? {})}`;
  return schema.type ?? "object";
}

function facts(schema, required) {
  const range = [schema.minimum, schema.maximum].some((end) => end !== undefined)
    ? `${schema.minimum ?? ""} to ${schema.maximum ?? ""}`
    : null;
  const otherwise = required ? "required" : schema.default === undefined ? null : `else ${JSON.stringify(schema.default)}`;
  return [typeName(schema), range, otherwise, schema.description].filter(Boolean).join(", ");
}

function fields(pairs) {
  const list = element("dl");
  for (const [name, text] of pairs) list.append(element("dt", "", name), element("dd", "", text));
  return list;
}

function fieldsOf(schema, required) {
  return fields(Object.entries(schema.properties).map(([name, field]) => [name, facts(field, required.includes(name))]));
}

function command(path, method, example) {
  if (method === "get") return `curl ${location.origin}${path}`;
  if (!example) return `curl -X ${method.toUpperCase()} --data-binary @corpus.txt -H 'Content-Type: application/octet-stream' '${location.origin}${path}?name=corpus.txt'`;
  const body = JSON.stringify(example).replaceAll("'", "'\\''");
  return `curl ${location.origin}${path} -H 'Content-Type: application/json' -d '${body}'`;
}

for (const [path, methods] of Object.entries(described.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    const card = element("section", "card endpoint");
    const title = element("h2");
    title.append(element("span", "method", method.toUpperCase()), path);
    card.append(title, element("p", "", operation.summary));
    if (operation.description) card.append(element("p", "quiet", operation.description.replaceAll("`", "")));
    const body = resolve(operation.requestBody?.content?.["application/json"]?.schema);
    const inputs = operation.parameters?.map(({ name, schema, required }) => [name, facts(schema, required)]);
    if (inputs) card.append(element("h3", "", "Parameters"), fields(inputs));
    if (body.properties) card.append(element("h3", "", "Body"), fieldsOf(body, body.required ?? []));
    const filled = Object.entries(body.properties ?? {}).filter(([, field]) => field.examples);
    const example = filled.length ? Object.fromEntries(filled.map(([name, field]) => [name, field.examples[0]])) : null;
    card.append(element("pre", "", command(path, method, example)));
    const answer = resolve(operation.responses["200"]?.content["application/json"].schema);
    if (answer.properties) card.append(element("h3", "", "Answer"), fieldsOf(answer, []));
    document.getElementById("endpoints").append(card);
  }
}
