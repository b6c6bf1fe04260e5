"use strict";
// A click or Enter opens a picture, arrow keys move within its group, Escape closes the dialog.
const viewer = document.getElementById("viewer");
const image = viewer.querySelector("img");
const caption = viewer.querySelector("figcaption");
let group = [];
let place = 0;

function show(number) {
  place = (number + group.length) % group.length;
  const chosen = group[place].querySelector("img");
  image.src = chosen.src;
  image.alt = chosen.alt;
  caption.replaceChildren(...group[place].querySelector(".words").cloneNode(true).childNodes);
  caption.append(document.createElement("br"), `${place + 1} of ${group.length}`);
}

function open(button) {
  group = [...button.closest("[data-group], main").querySelectorAll("button.picture")];
  show(group.indexOf(button));
  viewer.showModal();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button.picture");
  if (button) open(button);
});
viewer.querySelector(".previous").addEventListener("click", () => show(place - 1));
viewer.querySelector(".next").addEventListener("click", () => show(place + 1));
viewer.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
  if (step) {
    event.preventDefault();
    show(place + step);
  }
});
viewer.addEventListener("click", (event) => {
  if (event.target === viewer) viewer.close(); // beside the picture
});
viewer.addEventListener("close", () => group[place].focus());
// For printing, everything folded is opened, and folded again afterwards.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const each of folded) each.open = true;
});
addEventListener("afterprint", () => {
  for (const each of folded) each.open = false;
});
