// The page: search, upload, heat map. Texts go in with textContent only, so that none of them is ever markup.

const at = (id) => document.getElementById(id);

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `The server answered with status ${response.status}.`);
  return answer;
}

const post = (path, body) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

// Runs a form's work with its button resting and its last error gone; an error is shown in its place.
function onSubmit(form, errorPlace, work) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    errorPlace.hidden = true;
    try {
      await work();
    } catch (error) {
      errorPlace.textContent = error.message;
      errorPlace.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
}

// What is served, and how far a corpus is

const count = (number) => number.toLocaleString("en");
let limits = null;

async function refresh() {
  let health;
  try {
    health = await ask("/health");
  } catch (error) {
    at("corpus").textContent = error.message;
    setTimeout(refresh, 3000);
    return;
  }
  limits = health.limits;
  at("model").textContent = `${health.model} · ${health.dimension} dimensions · ${health.device}`;
  at("upload-box").hidden = !health.upload;
  at("upload-limits").textContent = `, up to ${count(limits.corpus)} sentences and ${limits.upload_mb} MB`;
  const { state, name, done, total, error } = health.corpus;
  at("encoding").hidden = state !== "encoding";
  at("encoding").value = total ? done / total : 0;
  at("corpus").textContent = {
    empty: "No corpus yet",
    encoding: `Encoding ${name}: ${count(done)} of ${count(total)} sentences`,
    ready: `${name} · ${count(health.sentences)} sentences`,
    failed: `${name} could not be indexed: ${error}`,
  }[state];
  if (state === "encoding") setTimeout(refresh, 500);
}

// Search

function show(hits) {
  const rows = hits.map(({ text, score }) => {
    const row = element("li");
    const strength = element("span", "strength");
    const bar = element("i");
    bar.style.width = `${Math.max(0, score) * 100}%`;
    strength.append(bar);
    row.append(element("span", "score", score.toFixed(3)), element("span", "text", text), strength);
    return row;
  });
  at("hits").replaceChildren(...(rows.length ? rows : [element("li", "none", "Nothing found.")]));
}

onSubmit(at("search"), at("search-error"), async () => {
  const query = at("query").value.trim();
  if (!query) return at("query").focus();
  show((await post("/api/search", { queries: [query], top_k: 10 })).results[0]);
});

// Upload

onSubmit(at("upload"), at("upload-error"), async () => {
  const file = at("file").files[0];
  if (!file) throw new Error("Choose a file first.");
  if (file.size > limits.upload_mb * 1e6) throw new Error(`The file is longer than ${limits.upload_mb} MB.`);
  const asked = new URLSearchParams({ name: file.name });
  const column = at("column").value.trim();
  if (column) asked.set("column", column);
  await ask(`/api/corpus?${asked}`, {
    method: "PUT",
    headers: { "Content-Type": "application/octet-stream" },
    body: file,
  });
  at("hits").replaceChildren();
  refresh();
});

// Heat map

const MANY = 14; // sentences from which cells are too small for their numbers

function ramp(share) {
  const style = getComputedStyle(document.documentElement);
  const [cold, warm] = ["--cold", "--warm"].map((name) => style.getPropertyValue(name).split(",").map(Number));
  const mixed = cold.map((from, place) => Math.round(from + (warm[place] - from) * share));
  const luminance = (0.299 * mixed[0] + 0.587 * mixed[1] + 0.114 * mixed[2]) / 255;
  return { background: `rgb(${mixed})`, ink: luminance > 0.55 ? "#14181e" : "#ffffff" };
}

function draw(sentences, similarities) {
  const others = similarities.flatMap((row, i) => row.filter((_, j) => i !== j));
  const low = Math.min(...others);
  const high = Math.max(...others, low + 1e-6);
  const head = element("tr");
  head.append(element("th"), ...sentences.map((_, place) => element("th", "", String(place + 1))));
  const rows = sentences.map((sentence, i) => {
    const row = element("tr");
    const label = element("th");
    label.scope = "row";
    label.title = sentence;
    label.append(element("span", "number", String(i + 1)), ` ${sentence}`);
    row.append(label);
    similarities[i].forEach((cosine, j) => {
      const cell = element("td", i === j ? "cell same" : "cell", cosine.toFixed(2));
      if (i !== j) {
        const { background, ink } = ramp((cosine - low) / (high - low));
        cell.style.background = background;
        cell.style.color = ink;
      }
      cell.title = `${cosine.toFixed(4)}\n${i + 1} ${sentence}\n${j + 1} ${sentences[j]}`;
      row.append(cell);
    });
    return row;
  });
  at("matrix").replaceChildren(head, ...rows);
  at("low").textContent = low.toFixed(2);
  at("high").textContent = high.toFixed(2);
  at("map").classList.toggle("many", sentences.length > MANY);
  at("map").hidden = false;
}

onSubmit(at("compare"), at("compare-error"), async () => {
  const sentences = at("sentences").value.split("\n").map((line) => line.trim()).filter(Boolean);
  if (sentences.length < 2) throw new Error("Write two sentences or more, each on its own line.");
  draw(sentences, (await post("/api/similarity", { sentences })).similarities);
});

refresh();
