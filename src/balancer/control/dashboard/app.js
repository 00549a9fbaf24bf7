"use strict";
// The live page. It shows what GET /events tells; texts are put in as text, never as markup.

const KEPT = 200;
const $ = (id) => document.getElementById(id);
const view = { fleet: null, requests: [], inFlight: [], summary: {}, wall: 0, at: 0, drills: false, file: null };
let key = sessionStorage.getItem("balancer-key") || "";
let opened = null; // which row is open: "request:ID" or "provider:NAME"
let selected = -1;
let usageBy = "model";
let usageSince = "24h";
let problem = "connecting";

// Building what is shown

function h(tag, given, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(given || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null).map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

function svg(tag, given, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(given || {})) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const count = (value) => (value == null ? "-" : value.toLocaleString("en"));
const seconds = (value) => (value == null ? "-" : value < 10 ? `${value.toFixed(2)} s` : `${Math.round(value)} s`);
const dollars = (value) => (value == null ? "-" : `$${value.toFixed(value >= 1 ? 2 : 4)}`);
const percent = (value) => (value == null ? "-" : `${Math.round(value * 100)} %`);
const clock = (wall) => new Date(wall * 1000).toLocaleTimeString();
const exact = (wall) => new Date(wall * 1000).toLocaleString();

function span(s) {
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.round(s / 60)} min`;
  return `${(s / 3600).toFixed(1)} h`;
}

function table(heads, rows, empty) {
  if (!rows.length) return h("p", { class: "empty" }, empty);
  const head = h("tr", {}, heads.map(([text, kind]) => h("th", { class: kind, scope: "col" }, text)));
  return h("table", {}, h("thead", {}, head), h("tbody", {}, rows));
}

function cells(values, heads) {
  return values.map((value, at) => h("td", { class: heads[at][1] }, value));
}

function row(name, given, inside, more) {
  const open = opened === name;
  const toggle = () => {
    opened = open ? null : name;
    draw();
  };
  const line = h("tr", { class: "opens", tabindex: "0", "data-row": name, "aria-expanded": String(open), onclick: toggle, ...given }, inside);
  return open ? [line, h("tr", { class: "more" }, h("td", { colspan: inside.length }, more()))] : [line];
}

const fits = (text) => {
  const wanted = $("filter").value.trim().toLowerCase();
  return !wanted || wanted.split(/\s+/).every((word) => text.toLowerCase().includes(word));
};

// The strip

const WORDS = { healthy: "serving", probing: "probing", resting: "cooling down", paused: "paused", disabled: "off" };
const KIND = { healthy: "good", probing: "warn", resting: "bad", paused: "warn", disabled: "dim" };
const SIGN = { healthy: "●", probing: "◐", resting: "▲", paused: "❚❚", disabled: "○" };

function state() {
  if (problem) return [problem, "bad"];
  const providers = view.fleet.providers;
  if (providers.some((p) => p.needs_operator)) return ["NEEDS YOU", "bad"];
  if (!view.fleet.healthy_providers) return ["NOBODY ANSWERS", "bad"];
  return providers.some((p) => p.enabled && p.state !== "healthy") ? ["degraded", "warn"] : ["serving", "good"];
}

function sentence() {
  if (problem || !view.fleet) return "";
  const needs = view.fleet.providers.find((p) => p.needs_operator);
  if (needs) return needs.needs_operator;
  const resting = view.fleet.providers.find((p) => p.state === "resting");
  if (resting) {
    const well = view.fleet.providers.filter((p) => p.state === "healthy").map((p) => p.name);
    const until = clock(view.wall + resting.resting_for_s);
    const why = resting.last_error ? ` (${resting.last_error.status || resting.last_error.kind})` : "";
    return `${resting.name} is cooling down until ${until}${why}; requests go to ${well.join(", ") || "nobody"}.`;
  }
  const paused = view.fleet.providers.find((p) => p.state === "paused");
  return paused ? `${paused.name} is paused.` : "";
}

function drawStrip() {
  const [word, kind] = state();
  $("state").textContent = word;
  $("state").className = `badge ${kind}`;
  $("sentence").textContent = sentence();
  const s = view.summary;
  $("in-flight").textContent = count(s.in_flight);
  $("per-minute").textContent = count(s.per_minute);
  $("first-token").textContent = s.first_token_p50_s == null ? "-" : `${seconds(s.first_token_p50_s)} / ${seconds(s.first_token_p95_s)}`;
  $("first-token").title = "median and 95 % of the last five minutes";
  $("hidden").textContent = count(s.hidden_today);
  $("cost").textContent = dollars(s.cost_today_usd) + (s.unpriced_today ? "+" : "");
  $("generation").textContent = view.fleet ? view.fleet.generation : "-";
  document.title = `${word} · balancer`;
}

// Providers

function hour(minutes) {
  const bars = [...minutes].map((mark, at) => svg("rect", { x: at * 3, y: mark === "." ? 13 : 0, width: 2, height: mark === "." ? 3 : 16, class: mark === "." ? "e" : mark }));
  const words = [...minutes].filter((mark) => mark === "x").length;
  return svg("svg", { class: "hour", viewBox: "0 0 180 16", role: "img", "aria-label": `last hour: ${words} minutes with failures` }, ...bars);
}

async function order(word, name, more) {
  if (!confirm(`${word} ${name}?`)) return;
  const path = word === "drill" ? "/admin/drill" : `/admin/${word}`;
  const answer = await ask(path, { method: "POST", body: JSON.stringify({ provider: name, ...more }) });
  if (!answer.ok) alert((await answer.json()).error.message);
}

function buttons(p) {
  const all = [p.state === "resting" ? ["wake", {}] : null, p.state === "paused" ? ["resume", {}] : ["pause", {}], view.drills ? ["drill", { fault: "529", requests: 3 }] : null];
  return h("p", {}, all.filter(Boolean).map(([word, more]) => [h("button", { type: "button", onclick: () => order(word, p.name, more) }, word), " "]));
}

function pairs(found) {
  const shown = found.filter(([, value]) => value != null && value !== "" && !(Array.isArray(value) && !value.length));
  return h("dl", {}, shown.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function drawProviders() {
  const heads = [["provider"], ["state"], ["last hour", "wide"], ["in flight", "n"], ["asked", "n"], ["failed", "n"], ["first token", "n"], ["input", "n wide"], ["output", "n wide"], ["cached", "n wide"]];
  const passed = performance.now() / 1000 - view.at;
  const rows = view.fleet.providers
    .filter((p) => fits(`${p.name} ${p.type} ${p.state}`))
    .map((p) => {
      const rest = p.resting_for_s - passed;
      const cooling = p.state === "healthy" ? (p.resting_models || []).length : 0;
      const why = cooling ? `serving, ${cooling} model${cooling > 1 ? "s" : ""} cooling down` : p.needs_operator ? "NEEDS YOU" : p.state === "resting" && rest > 0 ? `${WORDS[p.state]}, ${span(rest)}` : WORDS[p.state] || p.state;
      const t = p.tokens || {};
      const prompt = (t.input || 0) + (t.cache_read || 0) + (t.cache_creation || 0);
      const values = [
        h("b", {}, p.name),
        h("span", { class: cooling ? "warn" : KIND[p.state] }, `${cooling ? "◐" : SIGN[p.state] || ""} ${why}`),
        hour(p.minutes),
        count(p.in_flight),
        count(p.requests),
        count(p.failures),
        seconds(p.latency && p.latency.first_substance_s),
        count(t.input),
        count(t.output),
        percent(prompt ? (t.cache_read || 0) / prompt : null),
      ];
      const error = p.last_error;
      return row(`provider:${p.name}`, {}, cells(values, heads), () => [
        pairs([
          ["what to do", p.needs_operator],
          ["type", p.type],
          ["address", p.base_url],
          ["last error", error ? `${exact(error.at)}: ${error.status || ""} ${error.message || error.kind}` : null],
          ["models cooling down", (p.resting_models || []).map((m) => m.model || m).join(", ")],
          ["routes", (p.models || []).map((m) => `${m.pattern} → ${m.model} (${m.priority})`).join(", ")],
          ["learnt", p[p.type] ? JSON.stringify(p[p.type]) : null],
        ]),
        buttons(p),
      ]);
    });
  return table(heads, rows.flat(), "No provider fits the filter.");
}

// Requests

function chain(r) {
  const tried = (r.attempts || []).filter((a) => a.outcome !== "completed");
  if (!tried.length) return r.provider || "-";
  const words = tried.map((a) => `${a.provider} ${a.status || a.outcome} ${seconds(a.duration_s)}`);
  return [...words, r.provider ? `${r.provider} ${r.outcome}` : r.outcome].join(" → ");
}

function trail(r) {
  const whole = Math.max(r.duration_s, 0.001);
  let at = r.queued_s || 0;
  const lines = (r.attempts || []).map((a) => {
    const begins = at;
    at += a.duration_s;
    const bar = svg("rect", { x: (begins / whole) * 700, y: 1, width: Math.max(2, (a.duration_s / whole) * 700), height: 12, class: a.outcome === "completed" ? "bar" : "bar bad" });
    const words = `${a.provider} (${a.model}): ${a.outcome}${a.status ? ` ${a.status}` : ""}, ${seconds(a.duration_s)}, ${a.stage}${a.drill ? ", injected" : ""}${a.reason ? `: ${a.reason}` : ""}`;
    return [h("span", {}, words), svg("svg", { viewBox: "0 0 700 14", preserveAspectRatio: "none", "aria-hidden": "true" }, bar)];
  });
  return h("div", { class: "trail" }, lines.flat());
}

function tokensOf(usage) {
  const u = usage || {};
  const read = u.cache_read_tokens || 0;
  const whole = (u.input_tokens || 0) + read + (u.cache_creation_tokens || 0);
  return [u.input_tokens == null ? "-" : count(whole), whole && read ? percent(read / whole) : "", count(u.output_tokens)];
}

const OUTCOME = { ok: "good", client_error: "warn", failed: "bad", broken_stream: "bad", abandoned: "dim" };

function drawRequests() {
  const heads = [["time"], ["model"], ["answered by"], ["outcome"], ["client", "wide"], ["session", "wide"], ["first token", "n"], ["took", "n"], ["in", "n wide"], ["cached", "n wide"], ["out", "n wide"]];
  const now = view.inFlight
    .filter((r) => fits(`${r.model} ${r.client || ""} in flight`))
    .map((r) => h("tr", {}, cells([clock(r.wall), r.model, "", "in flight", r.client || "", "", "", seconds(r.age_s), "", "", ""], heads)));
  const ended = [...view.requests]
    .reverse()
    .filter((r) => fits(`${r.model} ${chain(r)} ${r.outcome} ${r.key || r.client || ""} ${r.session || ""} ${r.project || ""} ${r.id}`))
    .map((r) => {
      const [prompt, cached, out] = tokensOf(r.usage);
      const values = [h("span", { title: exact(r.wall) }, clock(r.wall)), r.model, chain(r), h("span", { class: OUTCOME[r.outcome] }, r.outcome), (r.key || r.client || "").slice(0, 12), (r.session || "").slice(0, 8), seconds(r.first_substance_s), seconds(r.duration_s), prompt, cached, out];
      return row(`request:${r.id}`, {}, cells(values, heads), () => [
        trail(r),
        pairs([
          ["id", h("code", {}, r.id)],
          ["status", r.status],
          ["why", r.reason],
          ["route", r.route],
          ["asked of the provider", r.provider_model],
          ["project", r.project],
          ["pinned", r.pinned ? "yes: the conversation's own provider was asked first" : null],
          ["coalescing", r.dedup],
          ["waited for a place", r.queued_s ? seconds(r.queued_s) : null],
          ["on the way", (r.notes || []).join(", ")],
        ]),
      ]);
    });
  const empty = h("span", {}, "No requests yet. Point a client here: ", h("code", {}, `export ANTHROPIC_BASE_URL=${location.origin} ANTHROPIC_AUTH_TOKEN=balancer`), " then ", h("code", {}, "claude"), ", or ", h("code", {}, "balancer run"), ".");
  return table(heads, [...now, ...ended.flat()], view.requests.length ? "No request fits the filter." : empty);
}

// Usage

async function drawUsage() {
  const box = $("usage");
  const choose = (name, value, values, change) => h("label", {}, `${name} `, h("select", { onchange: (e) => change(e.target.value) }, values.map((v) => h("option", { value: v, selected: v === value }, v))));
  const answer = await ask(`/usage?by=${usageBy}&since=${usageSince}`);
  const told = await answer.json();
  const controls = h("p", {}, choose("by", usageBy, ["day", "model", "provider", "client", "session", "project"], (v) => { usageBy = v; drawUsage(); }), " ", choose("since", usageSince, ["today", "24h", "7d", "30d"], (v) => { usageSince = v; drawUsage(); }));
  if (!answer.ok) {
    box.replaceChildren(controls, h("p", { class: "empty" }, told.error.message));
    return;
  }
  const most = Math.max(...told.groups.map((g) => g.cost_usd), 1e-9);
  const wide = 900 / Math.max(told.groups.length, 1);
  const bars = svg("svg", { class: "bars", viewBox: "0 0 900 120", preserveAspectRatio: "none", role: "img", "aria-label": `cost by ${usageBy}` }, ...told.groups.map((g, at) => {
    const high = (g.cost_usd / most) * 116;
    return svg("rect", { x: at * wide + 2, y: 120 - high, width: Math.max(1, wide - 4), height: high });
  }));
  const heads = [[usageBy], ["requests", "n"], ["failed", "n"], ["input", "n"], ["cache read", "n"], ["cache written", "n"], ["output", "n"], ["cached", "n"], ["cost", "n"]];
  const line = (name, g) => h("tr", {}, cells([name || "-", count(g.requests), count(g.failed), count(g.input_tokens), count(g.cache_read_tokens), count(g.cache_write_5m_tokens + g.cache_write_1h_tokens), count(g.output_tokens), percent(g.cache_share), dollars(g.cost_usd) + (g.unpriced ? "+" : "")], heads));
  const rows = told.groups.map((g) => line(g[usageBy], g));
  if (rows.length > 1) rows.push(line("total", told.total));
  box.replaceChildren(controls, rows.length ? bars : "", table(heads, rows, "No finished requests in this time."), h("p", { class: "dim" }, told.total.unpriced ? "+ lacks requests of models whose price is not known (settings.prices). " : "", h("code", {}, `balancer usage --by ${usageBy} --since ${usageSince} --csv`)));
}

// Configuration

function drawConfiguration() {
  const fleet = view.fleet;
  const byRoute = new Map();
  for (const p of fleet.providers) for (const m of p.models || []) byRoute.set(m.pattern, [...(byRoute.get(m.pattern) || []), { ...m, provider: p }]);
  const heads = [["model"], ["answered now by"], ["then"]];
  const rows = [...byRoute].filter(([pattern]) => fits(pattern)).map(([pattern, targets]) => {
    const words = (t) => `${t.provider.name}${t.model === "passthrough" ? "" : ` as ${t.model}`}`;
    const usable = (t) => t.provider.enabled && ["healthy", "probing"].includes(t.provider.state);
    const ordered = [...targets].sort((a, b) => a.priority - b.priority);
    const first = ordered.find(usable);
    return h("tr", {}, cells([h("code", {}, pattern), first ? words(first) : h("span", { class: "bad" }, "nobody"), ordered.filter((t) => t !== first).map(words).join(", ")], heads));
  });
  return h("div", {},
    pairs([["file", view.file || "none: simulated providers"], ["generation", fleet.generation], ["strategy", fleet.selection_strategy], ["needs a restart", (fleet.needs_restart || []).join(", ")]]),
    (fleet.warnings || []).length ? [h("h2", {}, "Warnings"), h("ul", {}, fleet.warnings.map((w) => h("li", {}, w)))] : null,
    h("h2", {}, "Routes"), table(heads, rows, "No route fits the filter."));
}

// Which part is shown

const part = () => (["providers", "requests", "usage", "configuration"].includes(location.hash.slice(1)) ? location.hash.slice(1) : "providers");

function draw() {
  drawStrip();
  for (const link of document.querySelectorAll("nav a")) link.toggleAttribute("aria-current", link.dataset.part === part());
  for (const section of document.querySelectorAll("main section")) section.hidden = section.id !== part();
  if (!view.fleet) return;
  const focused = document.activeElement && document.activeElement.dataset && document.activeElement.dataset.row;
  if (part() === "providers") $("providers").replaceChildren(drawProviders());
  if (part() === "requests") $("requests").replaceChildren(drawRequests());
  if (part() === "configuration") $("configuration").replaceChildren(drawConfiguration());
  if (focused) document.querySelector(`[data-row="${CSS.escape(focused)}"]`)?.focus();
}

// Asking the balancer

async function ask(path, more) {
  const headers = { "content-type": "application/json", ...(key ? { "x-balancer-key": key } : {}) };
  const answer = await fetch(path, { ...more, headers });
  if (answer.status === 401 || (answer.status === 403 && key)) await askKey(answer);
  return answer;
}

function askKey() {
  return new Promise((done) => {
    const box = $("key-dialog");
    box.addEventListener("close", () => {
      key = $("key").value.trim();
      $("key").value = "";
      sessionStorage.setItem("balancer-key", key);
      done();
    }, { once: true });
    if (!box.open) box.showModal();
  });
}

function take(kind, data) {
  if (kind === "draining") {
    problem = "draining";
    return;
  }
  problem = "";
  if (kind === "snapshot") Object.assign(view, { requests: [], drills: data.drills, file: data.file });
  if (data.fleet) Object.assign(view, { fleet: data.fleet, wall: data.wall, at: performance.now() / 1000 });
  view.summary = data.summary || view.summary;
  view.inFlight = data.in_flight || view.inFlight;
  const known = view.requests.length ? view.requests[view.requests.length - 1].number : 0;
  view.requests = [...view.requests, ...(data.requests || []).filter((r) => r.number > known)].slice(-KEPT);
}

async function follow() {
  for (let wait = 1000; ; wait = Math.min(wait * 2, 15000)) {
    if (document.hidden) await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
    const stop = new AbortController();
    const hide = () => document.hidden && stop.abort();
    document.addEventListener("visibilitychange", hide);
    try {
      const headers = key ? { "x-balancer-key": key } : {};
      const answer = await fetch("/events", { headers, signal: stop.signal });
      if (answer.status === 401 || answer.status === 403) {
        problem = "key needed";
        draw();
        await askKey();
        wait = 500;
        continue;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      wait = 500;
      await read(answer.body.getReader());
    } catch (error) {
      if (!stop.signal.aborted) problem = "stream lost, retrying";
    } finally {
      document.removeEventListener("visibilitychange", hide);
    }
    draw();
    if (!document.hidden) await new Promise((done) => setTimeout(done, wait));
  }
}

async function read(reader) {
  const decoder = new TextDecoder();
  let kept = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    kept += decoder.decode(value, { stream: true });
    const frames = kept.split("\n\n");
    kept = frames.pop();
    for (const frame of frames) {
      const found = /^event: (\w+)\ndata: (.*)$/s.exec(frame);
      if (found) take(found[1], JSON.parse(found[2]));
    }
    draw();
  }
}

// Keyboard, theme, start

let going = false;
document.addEventListener("keydown", (event) => {
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    opened = null;
    draw();
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (going) {
    going = false;
    const to = { p: "providers", r: "requests", u: "usage", c: "configuration" }[event.key];
    if (to) location.hash = to;
    return;
  }
  if (event.key === "g") going = true;
  if (event.key === "/") {
    event.preventDefault();
    $("filter").focus();
  }
  const rows = [...document.querySelectorAll("section:not([hidden]) tr.opens")];
  if (event.key === "j" || event.key === "k") {
    const at = rows.indexOf(document.activeElement);
    selected = Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + (event.key === "j" ? 1 : -1)));
    rows[selected]?.focus();
  }
  if (event.key === "Enter" && event.target.matches?.("tr.opens")) event.target.click();
});

$("theme").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  localStorage.setItem("balancer-theme", document.documentElement.dataset.theme);
});
const theme = localStorage.getItem("balancer-theme");
if (theme) document.documentElement.dataset.theme = theme;

function showFilter() {
  const words = $("filter").value.trim();
  history.replaceState(null, "", `${location.pathname}${words ? `?filter=${encodeURIComponent(words)}` : ""}${location.hash}`);
  draw();
}
$("filter").value = new URLSearchParams(location.search).get("filter") || "";
$("filter").addEventListener("input", showFilter);
addEventListener("hashchange", () => {
  opened = null;
  draw();
  if (part() === "usage") drawUsage();
});
draw();
follow();
if (part() === "usage") drawUsage();
