// Reads [[module, document], ...] as JSON from standard input; prints a line for each document that its schema refuses.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

for (const [path, document] of JSON.parse(readFileSync(0, "utf8"))) {
  const { validate } = await import(pathToFileURL(path));
  if (!validate(document)) {
    const where = `${document.kind} ${document.metadata.name}`;
    console.log(validate.errors.map((e) => `${where}: ${e.instancePath} ${e.message ?? e.keyword} ${JSON.stringify(e.params)}`).join("\n"));
  }
}
