// SPDX-License-Identifier: MIT OR Apache-2.0
// The line above the message. A closed shadow root and important rules keep the message's own styles away from it.

"use strict";

(() => {
  const ID = "sealed-at-rest-line";
  document.getElementById(ID)?.remove();
  const host = document.createElement("div");
  host.id = ID;
  const style = document.createElement("style");
  style.textContent = `
    :host { all: initial !important; display: block !important; margin: 0 0 12px !important; user-select: none !important; }
    div { font: 0.9rem/1.4 system-ui, sans-serif; padding: 8px 12px; border-radius: 4px;
      border-inline-start: 4px solid #1a5fb4; background: #e7f0fb; color: #14202e; }
    strong { font-weight: 600; }
    @media (prefers-color-scheme: dark) { div { border-color: #78aeed; background: #1d2a3a; color: #eef3fa; } }
    @media (forced-colors: active) { div { border-color: CanvasText; background: Canvas; color: CanvasText; } }
    @media print { :host { display: none !important; } }`;
  const line = document.createElement("div");
  line.setAttribute("role", "note");
  line.lang = messenger.i18n.getUILanguage();
  line.dir = messenger.i18n.getMessage("@@bidi_dir");
  const title = document.createElement("strong");
  title.textContent = messenger.i18n.getMessage("title");
  line.append(title, " ", messenger.i18n.getMessage("line"));
  host.attachShadow({ mode: "closed" }).append(style, line);
  document.body.prepend(host);
})();
