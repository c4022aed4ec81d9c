"use strict";
// A part of a page that says data-part="ADDRESS" and data-every="SECONDS" is asked for again, while the page is looked at.
// The same answer as before (ETag) changes nothing.
document.querySelectorAll("[data-part]").forEach(function (part) {
  let tag = null;
  async function renew() {
    if (document.hidden || part.contains(document.activeElement)) return;
    const headers = { "Lgsp-Part": part.id };
    if (tag) headers["If-None-Match"] = tag;
    const answer = await fetch(part.dataset.part, { headers: headers, credentials: "same-origin" });
    if (answer.status === 401) { location.reload(); return; }
    if (!answer.ok) return;
    tag = answer.headers.get("ETag");
    part.innerHTML = await answer.text();
  }
  setInterval(function () { renew().catch(function () {}); }, 1000 * Number(part.dataset.every || 10));
});
// A button that does something grave asks first; one that was pressed cannot be pressed twice.
document.addEventListener("submit", function (event) {
  const question = event.submitter && event.submitter.dataset.ask;
  if (question && !confirm(question)) { event.preventDefault(); return; }
  setTimeout(function () { event.target.querySelectorAll("button").forEach(function (b) { b.disabled = true; }); }, 0);
});
// "/" goes to the search box.
document.addEventListener("keydown", function (event) {
  const box = document.getElementById("search");
  if (event.key === "/" && box && !/INPUT|TEXTAREA|SELECT/.test(document.activeElement.tagName)) { event.preventDefault(); box.focus(); }
});
// A button with data-copy="ID" copies what that field holds, and says so.
document.addEventListener("click", function (event) {
  const button = event.target.closest && event.target.closest("[data-copy]");
  if (!button) return;
  const field = document.getElementById(button.dataset.copy);
  const done = function () { button.textContent = button.dataset.copied; };
  if (navigator.clipboard) { navigator.clipboard.writeText(field.value).then(done, function () { field.select(); }); }
  else { field.select(); document.execCommand("copy"); done(); }
});
