// What was read of the pictures, as a file: the columns of `predict_faces`, with the picture's name.

const COLUMNS = [
  ...["x", "y", "width", "height", "score", "age", "age_low", "age_high", "gender", "gender_proba"],
  ...["rotation", "sharpness", "yaw", "roll", "quality", "reliable", "doubts"],
];

/** Text as a cell; a spreadsheet must not take a name for a formula. */
function cell(value) {
  if (value === null || value === undefined) return "";
  let text = String(value);
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csv(cards) {
  const lines = [["picture", ...COLUMNS].join(",")];
  for (const card of cards) {
    for (const face of card.faces ?? []) {
      lines.push([card.file.name, ...COLUMNS.map((name) => face[name])].map(cell).join(","));
    }
  }
  return `${lines.join("\r\n")}\r\n`;
}

function json(cards) {
  const pictures = cards.map((card) => ({
    name: card.file.name,
    faces: card.faces ?? [],
    ...(card.failure ? { error: card.failure } : {}),
  }));
  return `${JSON.stringify({ pictures }, null, 2)}\n`;
}

export function save(cards, kind) {
  const type = kind === "csv" ? "text/csv" : "application/json";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([kind === "csv" ? csv(cards) : json(cards)], { type }));
  link.download = `faces.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
