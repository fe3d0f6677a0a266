// Judges documents for the tests: reads questions from standard input, writes answers to standard output. Each is
// JSON behind its length in four bytes, as a port of Erlang with `{:packet, 4}` speaks.
import Ajv from "ajv/dist/2020.js";
import { Validator } from "@seriousme/openapi-schema-validator";

// Formats are annotations in 2020-12, and so are the keywords that no vocabulary has.
const ajv = new Ajv({ strict: false, validateFormats: false, addUsedSchema: false });

// One digit for each value: whether the schema accepts it.
function values({ schema, values }) {
  const accepts = ajv.compile(schema);
  const verdicts = values.map((value) => (accepts(value) ? "1" : "0")).join("");
  ajv.removeSchema(schema);
  return verdicts;
}

const validator = new Validator();

async function openapi({ document }) {
  const { valid, errors } = await validator.validate(document);
  return valid ? null : JSON.stringify(errors).slice(0, 4000);
}

async function answer(question) {
  try {
    const { kind, ...rest } = JSON.parse(question);
    return { answer: await { values, openapi }[kind](rest) };
  } catch (error) {
    return { error: String(error) };
  }
}

let pending = Buffer.alloc(0);
for await (const chunk of process.stdin) {
  pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
  while (pending.length >= 4 && pending.length >= 4 + pending.readUInt32BE(0)) {
    const end = 4 + pending.readUInt32BE(0);
    const body = Buffer.from(JSON.stringify(await answer(pending.toString("utf8", 4, end))));
    pending = pending.subarray(end);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(body.length);
    process.stdout.write(Buffer.concat([length, body]));
  }
}
