// Vercel's AI SDK against the proxy, with its three providers that can reach one.

import { readFileSync } from "node:fs";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, Output, RetryError, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const { TRIALS_PROXY: proxy, TRIALS_KEY: apiKey } = process.env;
const versions = JSON.parse(readFileSync(new URL("package.json", import.meta.url))).dependencies;
const question = "What is the weather in Rome?";
const long = "Please summarise this. ".repeat(50);

let asked = 0; // requests that went out
const fetching = (...given) => {
  asked += 1;
  return fetch(...given);
};
const settings = { apiKey, fetch: fetching, baseURL: `${proxy}/v1` };
const openai = createOpenAI(settings);
const compatible = createOpenAICompatible({ ...settings, name: "wallie", includeUsage: true, supportsStructuredOutputs: true });
const anthropic = createAnthropic(settings);
const providers = {
  "@ai-sdk/openai, responses": (group) => openai.responses(group),
  "@ai-sdk/openai, chat": (group) => openai.chat(group),
  "@ai-sdk/openai-compatible": (group) => compatible(group),
  "@ai-sdk/anthropic": (group) => anthropic({ up: "claude", down: "claude-down" }[group] ?? group),
};

const expect = (holds, found) => {
  if (!holds) throw new Error(JSON.stringify(found));
};
const featureOf = (tried) => `vercel-${tried}`.replaceAll(" ", "-").toLowerCase();
const headersOf = (tried) => ({ "x-wallie-feature": featureOf(tried) });
const tokensOf = (usage) => [usage.inputTokens, usage.outputTokens];

async function run(name, what, act) {
  const tried = `${name}: ${what}`;
  const row = { sdk: "Vercel ai", version: versions.ai, against: "proxy", tried, feature: featureOf(tried) };
  try {
    const { result, tokens = null } = await act(headersOf(tried));
    console.log(JSON.stringify({ ...row, good: true, result, tokens }));
  } catch (error) {
    console.log(JSON.stringify({ ...row, good: false, result: `${error.name}: ${error.message}`.slice(0, 300), tokens: null }));
  }
}

async function refused(ask) {
  for (let call = 0; call < 3; call += 1) {
    try {
      await ask();
    } catch (error) {
      return error;
    }
  }
  throw new Error("it was never refused");
}

for (const [name, model] of Object.entries(providers)) {
  await run(name, "answer", async (headers) => {
    const { text, usage } = await generateText({ model: model("up"), prompt: question, headers });
    return { result: text, tokens: tokensOf(usage) };
  });
  await run(name, "stream", async (headers) => {
    const stream = streamText({ model: model("up"), prompt: question, headers });
    return { result: await stream.text, tokens: tokensOf(await stream.usage) };
  });
  await run(name, "tool call", async (headers) => {
    const cities = [];
    const execute = async ({ city }) => cities.push(city) && "sunny";
    const weather = tool({ description: "The weather.", inputSchema: z.object({ city: z.string() }), execute });
    const { text } = await generateText({
      model: model("up"), prompt: question, headers, tools: { weather }, stopWhen: stepCountIs(3),
    });
    expect(cities.join() === "simulated", cities);
    return { result: `weather was called, then: ${text}` };
  });
  if (name !== "@ai-sdk/anthropic") {
    await run(name, "structured output", async (headers) => {
      const output = Output.object({ schema: z.object({ city: z.string() }) });
      const found = await generateText({ model: model("up"), prompt: question, headers, output });
      return { result: JSON.stringify(found.output), tokens: tokensOf(found.usage) };
    });
  }
  await run(name, "fallback", async (headers) => {
    const { text, usage } = await generateText({ model: model("down"), prompt: question, headers });
    return { result: text, tokens: tokensOf(usage) };
  });
  await run(name, "refusal", async (headers) => {
    const ask = () => generateText({ model: model("full"), prompt: question, headers, maxRetries: 0 });
    const error = await refused(ask);
    expect(APICallError.isInstance(error) && error.statusCode === 429, error);
    const wait = Number(error.responseHeaders["retry-after"]);
    expect(wait >= 1 && wait <= 5, error.responseHeaders);
    return { result: "APICallError 429, Retry-After in whole seconds" };
  });
  await run(name, "too large, x-should-retry", async (headers) => {
    asked = 0;
    const error = await refused(() => generateText({ model: model("tiny"), prompt: long, headers }));
    const last = RetryError.isInstance(error) ? error.lastError : error;
    expect(last.responseHeaders["x-should-retry"] === "false", last.responseHeaders);
    return { result: `${error.name}, x-should-retry: false; asked ${asked} times` };
  });
}
await run("@ai-sdk/openai, chat", "wait for capacity", async (headers) => {
  const ask = () => generateText({ model: openai.chat("waits"), prompt: question, headers });
  await ask();
  const begun = Date.now();
  const { response } = await ask();
  expect(Date.now() - begun > 300, response.headers);
  return { result: "the second of two calls waited for its turn" };
});
await run("@ai-sdk/openai, chat", "refusal, then retry", async (headers) => {
  const ask = (maxRetries) => generateText({ model: openai.chat("full"), prompt: question, headers, maxRetries });
  await refused(() => ask(0));
  asked = 0;
  await ask(2);
  return { result: `answered by ${asked} requests, the client's waits as Retry-After says` };
});
