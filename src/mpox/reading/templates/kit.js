"use strict";
const content = JSON.parse(document.getElementById("content").textContent);
const main = document.getElementById("main");
const show = (name) => {
  main.replaceChildren(document.getElementById(name).content.cloneNode(true));
  main.querySelector("input, button")?.focus();
};

// Each reader's order: a Fisher-Yates shuffle by mulberry32, seeded with the kit and the reader's code.
function order(code, number) {
  let seed = 2166136261;
  for (const c of content.kit + "/" + code) seed = Math.imul(seed ^ c.codePointAt(0), 16777619);
  const random = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const places = [...Array(number).keys()];
  for (let i = number - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [places[i], places[j]] = [places[j], places[i]];
  }
  return places;
}

function crc32(text) {
  let crc = -1;
  for (const byte of new TextEncoder().encode(text)) {
    crc ^= byte;
    for (let k = 0; k < 8; k++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return (~crc >>> 0).toString(16).padStart(8, "0");
}

// ---------------------------------------------------------------- answers, stored after every picture

let state; // the code, and the answers so far, each with its picture's id
const place = (code) => `reading ${content.kit} ${code}`;
function keep() {
  localStorage.setItem(place(state.code), JSON.stringify(state));
}

function table() {
  const names = ["position", "id", ...content.questions.map((q) => q.name), "seconds"];
  const quoted = (value) => `"${String(value).replaceAll('"', '""').replace(/\s+/g, " ")}"`;
  const rows = state.answers.map((answer, k) => names.map((name) => quoted(name === "position" ? k + 1 : answer[name])));
  return [["kit", content.kit], ["reader", state.code], names, ...rows].map((row) => row.join(",") + "\n").join("");
}

function file(as) {
  const text = table();
  const answers = { kit: content.kit, reader: state.code, answers: state.answers };
  return as === "csv"
    ? text + `checksum,${crc32(text)}\n`
    : JSON.stringify({ ...answers, checksum: crc32(JSON.stringify(answers)) });
}

function end() {
  show("end");
  for (const button of main.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([file(button.dataset.as)], { type: "text/plain" }));
      link.download = `reading-${content.kit}-${state.code}.${button.dataset.as}`;
      link.click();
      main.querySelector(".saved").textContent = `Saved in your downloads folder as ${link.download}.`;
    });
  }
}

// ---------------------------------------------------------------- one picture after another

function enlarge(image) {
  // By whole multiples, so that nothing is blurred; a picture larger than the screen is shrunk to fit.
  const frame = image.parentElement;
  const most = Math.min(frame.clientWidth, frame.clientHeight) * devicePixelRatio;
  const times = most >= content.side ? Math.floor(most / content.side) : most / content.side;
  image.style.width = image.style.height = `${(content.side * times) / devicePixelRatio}px`;
}

function picture(src, id, number, total, questions, done) {
  show("reading");
  const image = main.querySelector("img");
  image.src = src;
  if (id) image.dataset.id = id;
  enlarge(image);
  window.onresize = () => enlarge(image);
  main.querySelector("progress").max = total;
  main.querySelector("progress").value = number;
  main.querySelector(".left").textContent = `${id ? "Picture" : "Training:"} ${number + 1} of ${total}`;
  const started = performance.now();
  const seconds = () => Math.round((performance.now() - started) / 100) / 10;
  const clock = setInterval(() => {
    const shown = main.querySelector(".clock");
    if (shown) shown.textContent = `${Math.round(seconds())} s`;
  }, 1000);
  const answer = { id };
  ask(questions, answer, () => {
    clearInterval(clock);
    answer.seconds = seconds();
    done(answer);
  });
}

function ask(questions, answer, done) {
  if (!questions.length) return done();
  const [question, ...rest] = questions;
  const form = main.querySelector("form");
  form.querySelector("h2").textContent = question.ask;
  const options = form.querySelector(".options");
  const hint = form.querySelector(".hint");
  options.replaceChildren();
  const next = (value) => {
    document.onkeydown = form.onsubmit = null;
    answer[question.name] = value;
    ask(rest, answer, done);
  };
  form.onsubmit = (event) => event.preventDefault();
  if (question.text) {
    const field = document.createElement("input");
    field.type = "text";
    field.maxLength = 500;
    field.setAttribute("aria-label", question.ask);
    options.append(field);
    field.focus();
    hint.textContent = "Press Enter to continue";
    form.onsubmit = (event) => { event.preventDefault(); next(field.value.trim()); };
    document.onkeydown = null;
    return;
  }
  const chosen = new Set();
  const keys = "123456789abcdefghijklmnopqrstuvwxyz";
  const buttons = question.options.map((option, k) => {
    const button = document.createElement("button");
    button.type = "button";
    const key = document.createElement("kbd");
    key.textContent = keys[k];
    button.append(key, ` ${option}`);
    button.onclick = () => {
      if (!question.many) return next(option);
      chosen.has(option) ? chosen.delete(option) : chosen.add(option);
      button.setAttribute("aria-pressed", chosen.has(option));
    };
    if (question.many) button.setAttribute("aria-pressed", false);
    options.append(button);
    return button;
  });
  const go = () => next(question.options.filter((option) => chosen.has(option)).join("; "));
  hint.textContent = question.many ? "Choose all that you see, or none" : "";
  if (question.many) {
    const button = document.createElement("button");
    button.type = "button";
    button.innerHTML = "<kbd>Enter</kbd> continue";
    button.onclick = go;
    options.append(button);
  }
  if (document.activeElement) document.activeElement.blur();
  document.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    // By the key's place, because on a French layout the digit keys type & or é.
    const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
    const k = keys.indexOf(digit ? digit[1] : event.key.toLowerCase());
    if ((digit || event.key.length === 1) && k >= 0 && k < buttons.length) {
      event.preventDefault();
      buttons[k].click();
    } else if (event.key === "Enter" && question.many && !document.activeElement.matches(".options button")) {
      event.preventDefault();
      go();
    }
  };
}

function lesson(k) {
  const { lessons, questions } = content;
  if (k >= lessons.length) {
    state.taught = true;
    keep();
    return read();
  }
  const asked = questions.filter((q) => ["class", "class_confidence"].includes(q.name));
  picture(lessons[k].src, null, k, lessons.length, asked, (answer) => {
    const verdict = answer.class === lessons[k].class ? "Right" : "Wrong";
    ask([{ name: "on", ask: `${verdict}: it is ${lessons[k].class}.`, options: ["continue"] }], {}, () => lesson(k + 1));
  });
}

function read() {
  const { pictures, questions } = content;
  const places = order(state.code, pictures.length);
  const k = state.answers.length;
  if (k >= pictures.length) return end();
  const { id, src } = pictures[places[k]];
  picture(src, id, k, pictures.length, questions, (answer) => {
    state.answers.push(answer);
    keep();
    read();
  });
}

show("start");
for (let k = 0; k < 16; k++) {
  const field = document.createElement("span");
  const grey = Math.round((255 * k) / 15);
  field.style.background = `rgb(${grey}, ${grey}, ${grey})`;
  main.querySelector(".wedge").append(field);
}
main.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const code = event.target.elements.code.value;
  let stored = null;
  try {
    stored = JSON.parse(localStorage.getItem(place(code)));
    localStorage.setItem("reading", ""); // throws where nothing can be stored
  } catch {
    const warning = " This browser cannot store your answers. Open the file in an ordinary window, not a private one.";
    event.target.querySelector("button").insertAdjacentText("afterend", warning);
    return;
  }
  state = stored || { code, answers: [], taught: false };
  state.taught ? read() : lesson(0);
});
