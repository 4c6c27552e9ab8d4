// SPDX-License-Identifier: MIT OR Apache-2.0
// Says above a message that it was sealed at rest, and lets replies to it begin without encryption.

"use strict";

/** Puts the line above the message that the tab shows, if that one was sealed at rest. */
async function showLine(tabId) {
  const [message, ...others] = await displayed(tabId);
  if (!message || others.length > 0 || !(await isSealedAtRest(message.id))) {
    return;
  }
  const [now] = await displayed(tabId);
  if (now?.id === message.id) {
    await messenger.scripting.executeScript({ target: { tabId }, files: ["line.js"] });
  }
}

async function displayed(tabId) {
  return (await messenger.messageDisplay.getDisplayedMessages(tabId))?.messages ?? [];
}

/** Turns encryption of a reply or forward off. The user can turn it on again: Thunderbird then asks for every key. */
async function beginInClear(tabId) {
  const { type, relatedMessageId, selectedEncryptionTechnology: technology } = await messenger.compose.getComposeDetails(tabId);
  const related = ["reply", "forward"].includes(type) && relatedMessageId !== undefined;
  if (!related || !technology || !(await isSealedAtRest(relatedMessageId))) {
    return;
  }
  const off = { ...technology, encryptBody: false, signMessage: false };
  if ("encryptSubject" in off) {
    off.encryptSubject = false;
  }
  await messenger.compose.setComposeDetails(tabId, { selectedEncryptionTechnology: off });
}

/** What is open already when the add-on starts. */
async function showLines() {
  for (const tab of await messenger.tabs.query({})) {
    if (["mail", "messageDisplay"].includes(tab.type)) {
      await showLine(tab.id).catch(console.warn);
    }
  }
}

messenger.messageDisplay.onMessagesDisplayed.addListener(tab => showLine(tab.id));
messenger.tabs.onCreated.addListener(tab => tab.type === "messageCompose" && beginInClear(tab.id));
messenger.runtime.onInstalled.addListener(showLines);
messenger.runtime.onStartup.addListener(showLines);
