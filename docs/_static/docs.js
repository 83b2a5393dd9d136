// Inspectors are as high as their pages, however wide they are, and have the theme that is chosen here.
const fit = (frame) => {
  const page = frame.contentDocument;
  const follow = () => {
    page.querySelector(".gmsa-inspector")?.inspector?.set({ theme: document.body.dataset.theme });
  };
  page.body.style.background = "transparent";
  new ResizeObserver(() => {
    frame.style.height = `${page.body.scrollHeight + 18}px`;
    follow(); // it was not there before
  }).observe(page.body);
  new MutationObserver(follow).observe(document.body, { attributeFilter: ["data-theme"] });
};

for (const frame of document.querySelectorAll("iframe.inspector")) {
  frame.addEventListener("load", () => fit(frame));
  const page = frame.contentDocument;
  if (page?.readyState === "complete" && page.body?.childElementCount) fit(frame); // there before this script was run
}

// The page of results has nothing to show before words are given.
const results = document.querySelector("#search-results");
if (results && !new URLSearchParams(location.search).get("q")) {
  results.append(Object.assign(document.createElement("p"), { textContent: "Type words into the search field of the menu: the pages that hold them are listed here." }));
}
