/**
 * What the server says on our nodes, in the language that ComfyUI's settings name.
 *
 * Messages of errors stay English, as the host's own do.
 */

import { filled, language, said } from "./words.js";

/**
 * {name} is any text in a line, {NAME} a number. ^ begins a line that is not indented, as prompts
 * are, and $ ends one; both do so for what stands in place of one of `PARTS` as well.
 * @type {Record<string, string>}
 */
const CHINESE = {
  // A training: how it ended, and what it needs.
  "^Saved as {file}.$": "已保存为 {file}。",
  "^Saved as {file}$": "已保存为 {file}",
  "No pictures while it trains: connect a VAE to see them.":
    "训练时没有预览图像：连接 VAE 即可看到。",
  "Cancelled in step {STEP} of {TOTAL}.": "已在第 {STEP} 步（共 {TOTAL} 步）取消。",
  "Cancelled before the first step.": "已在第一步之前取消。",
  "Nothing was saved.": "没有保存任何内容。",
  "Saved so far as {file}; press Run to go on.":
    "到目前为止的结果已保存为 {file}；再次运行即可继续。",
  "It is soft: nothing was hardened, and a small change of the text features brings the concept back. The recipe fast hardens it.":
    "它是软的：没有加固，文本特征稍有变化，概念就会回来。配方 fast 会加固它。",
  "The text's entrance alone can't tell the concept from what is to stay, so layers behind it were trained.":
    "仅在文本入口处无法把概念与要保留的内容分开，所以训练了其后的层。",
  "It was solved only: nobody looked for ways to bring the concept back, and there are some.":
    "只作了求解：没有寻找使概念重现的途径，而这样的途径是有的。",
  "Ways to bring the concept back were searched for; those found were closed.":
    "已寻找使概念重现的途径，并堵住了找到的途径。",
  "Ways to bring the concept back were searched for, and training closed those that it could; some may stay open.":
    "已寻找使概念重现的途径，并通过训练堵住了能堵住的；有些可能仍未堵住。",
  "It ended by itself, as little was left of the way from the concept to its replacement.":
    "已自行结束：从概念到替代物的路已所剩无几。",
  "It ended at its limit of {STEPS} steps.": "达到 {STEPS} 步的上限后结束。",
  "It diverged: the loss of erasing went from {first} to {last}, so the LoRA is of no use. Lower learning_rate, rank or negative guidance.":
    "训练发散了：擦除损失从 {first} 变为 {last}，这个 LoRA 没有用处。请降低 learning_rate、秩或负向引导。",
  "^{family} is experimental.": "{family} 的支持是实验性的。",
  "Only the layers through which text alone enters are trained; nobody has seen yet how well that erases in trained models of this family.":
    "只训练仅供文本进入的层；在这一系列的正式模型上效果如何，还没有人见过。",
  "Expected to need about {total}: {weights} for the weights and {rest} for {work}; and {states} of the computer's memory for sampled states and text.":
    "预计约需 {total}：权重 {weights}，{work} {rest}；另需 {states} 内存，用于采样的状态和文本。",
  "^a step$": "每一步",
  "^the closed form, beside which they need not fit$": "闭式解（权重不必同时装下）",
  "The weights stay packed, as fp8 and GGUF files have them; the LoRA goes on this model in other formats, too.":
    "权重保持 fp8 或 GGUF 文件中的压缩形式；LoRA 也可用于此模型的其他格式。",
  "About {left} of the weights find no room on the GPU beside that: they stay in the computer's memory and are copied for each use, at most {TIMES} times, {copied} in all.":
    "除此之外，约 {left} 的权重在显卡上放不下：它们留在内存中，每次使用时复制，最多 {TIMES} 次，共 {copied}。",
  "It takes no pass of the model.": "不需要运行模型。",
  "It takes {passes} passes of the model.": "模型运行次数：{passes}。",
  "Simple words need only {FEW} or {MORE}.": "简单的词只需 {FEW} 或 {MORE}。",
  "Simple words need only {FEW}.": "简单的词只需 {FEW}。",
  "A picture of {STEPS} steps takes {PASSES}.": "一幅 {STEPS} 步的图像需 {PASSES} 次。",
  "This family draws with guidance (cfg). If your model was distilled to draw without, as Turbo models are, train the one that it was made from, and apply the LoRA to both.":
    "这一系列绘图时使用引导（cfg）。如果您的模型经蒸馏而无需引导（如 Turbo 模型），请训练它的原模型，再把 LoRA 用于两者。",
  "It takes {passes} passes of the model, {share} those of the recipe fast (at most {FAST}).":
    "模型运行次数：{passes}，为配方 fast（最多 {FAST}）的{share}。",
  "^at most {COUNT}$": "最多 {COUNT}",
  "^{TIMES} times$": "约 {TIMES} 倍",
  "^{SHARE} of$": "约 {SHARE}",
  "This training can't be resumed if it is stopped: {why}.": "这次训练停止后将无法继续：{why}。",
  "^another process runs this very training and saves it$": "另一个进程正在运行并保存同一训练",
  "^{folder} has {FREE} MB free and {NEEDED} MB are needed$":
    "{folder} 剩余 {FREE} MB，需要 {NEEDED} MB",
  "^{folder} is on no disk that is there$": "{folder} 所在的磁盘不存在",
  "^{folder} can't be written to ({why})$": "{folder} 无法写入（{why}）",
  "Make room first if it is to go on after a stop.": "如果希望停止后能继续，请先腾出空间。",
  "^Got {damaged}: this training was begun anew.": "{damaged}：训练已重新开始。",
  "^{file} in {folder} that is damaged ({why})$": "{folder} 中的 {file} 已损坏（{why}）",
  "^{trainings} in {root} ({size}): run the same training again to go on with it{resumed}, or delete that folder.":
    "{root} 中有{trainings}（{size}）：再次运行相同的训练即可继续{resumed}，或删除该文件夹。",
  "^1 unfinished training lies$": "一个未完成的训练",
  "^{COUNT} unfinished trainings lie$": " {COUNT} 个未完成的训练",
  " ({OLD} of an older version can't be resumed)": "（其中 {OLD} 个属于旧版本，无法继续）",

  // A plan.
  "^Erase: ": "擦除：",
  "^Also erase: ": "同时擦除：",
  "^Also erase: no other wording$": "同时擦除：没有其他说法",
  "^Instead: ": "替换为：",
  "^Instead: nothing, the words are left out$": "替换为：无，直接去掉这些词",
  "^Contrast with: ": "对比：",
  "^Contrast with: nothing$": "对比：无",
  "^{PAIRS} prompt pairs, for example:$": "{PAIRS} 对提示词，例如：",
  "' is token {tokens}$": "' 是词元 {tokens}",
  "^{KEEP} prompts to keep, for example:$": "{KEEP} 条要保留的提示词，例如：",
  "^{HELD} further sentences held to their text features, for example ":
    "另有 {HELD} 个句子的文本特征保持不变，例如 ",
  "^0 further sentences held to their text features$": "没有另外要保持文本特征的句子",
  "^Note: ": "说明：",
  "No synonyms were given. Other words may still bring the concept: name one or two to be sure.":
    "没有填写同义词。其他说法仍可能使概念出现：请写上一两个。",
  "Prompt weights count for nothing here: the words were read without them.":
    "提示词权重在这里不起作用：读取时已忽略。",
  "'{words}' appears instead.": "替换为 '{words}'。",
  "'{words}' appears instead: one part of '{thing}' is another, so that the rest of the picture stays.":
    "替换为 '{words}'：'{thing}' 只换掉一部分，使画面的其余部分保持不变。",
  "'{words}' appears instead: its picture does not show the concept.":
    "替换为 '{words}'：它的图像不含该概念。",
  "'{words}' appears instead: another {category}, not so near to '{thing}' that a picture between the two would still show it.":
    "替换为 '{words}'：属于同一类（{category}），又不太接近 '{thing}'，两者之间的图像不会仍显出它。",
  "The words are left out: a picture whose prompt lacks them lacks the thing.":
    "直接去掉这些词：提示词里没有它们，图像里就没有这样东西。",
  "Nothing appears instead of '{thing}': its words are left out, as the planner knows nothing like it. If pictures without them still show it, fill in what should appear.":
    "'{thing}' 没有替换内容：词库中没有与它相似的东西，所以直接去掉这些词。如果去掉后图像里仍有它，请填写“替换为”。",

  // What is on a model, and merged.
  "^{acts}; all of its {LAYERS} layers fit this model.":
    "{acts}；它的全部 {LAYERS} 层都与此模型相符。",
  "^{name} erases {concept} at strength {STRENGTH}$": "{name} 以强度 {STRENGTH} 擦除{concept}",
  "^{acts}, which erases nothing of {concept}$": "{acts}，完全不擦除{concept}",
  "^{name} acts backwards at strength {STRENGTH}$": "{name} 以强度 {STRENGTH} 反向作用",
  "^{name} is off: at strength 0 nothing of {concept} is erased$":
    "{name} 未起作用：强度为 0 时完全不擦除{concept}",
  "^the LoRA$": "该 LoRA",
  "^its concept$": "其概念",
  "^{COUNT} tensors for text encoders in it were left out.":
    "其中 {COUNT} 个用于文本编码器的张量已略去。",
  "All of its lora_B are zero: it changes nothing.": "它的 lora_B 全为零：什么都不改变。",
  "^base model: ": "基础模型：",
  "^training: ": "训练：",
  "{STEPS} steps, {PASSES} forward passes of one picture": "{STEPS} 步，单幅图像前向 {PASSES} 次",
  "; losses at the end: {losses}$": "；最后的损失：{losses}",
  "solved, without a step$": "求解所得，没有训练步",
  "^On from {START} to {END} of sampling.": "在采样的 {START} 到 {END} 之间起作用。",
  "^{words}, strength {STRENGTH} ({file})$": "{words}，强度 {STRENGTH}（{file}）",
  "^Looked at {PROMPTS} prompts, with about {beside} beside the model's weights and a forward pass, and {memory} of the computer's memory.":
    "查看了 {PROMPTS} 条提示词；除模型权重和一次前向外约用 {beside}，另用 {memory} 内存。",
  "^Solved for {PAIRS} prompt pairs, with {HELD} sentences held, by no pass of the model.":
    "已为 {PAIRS} 对提示词求解，并保持 {HELD} 个句子不变，没有运行模型。",

  // Pictures that were drawn, and looked into.
  "^{role}: pixels differ by {change} on average$": "{role}：像素平均相差 {change}",
  "^to erase$": "要擦除",
  "^to keep$": "要保留",
  "{CHANGE}, similarity {SIMILARITY}": "{CHANGE}，相似度 {SIMILARITY}",
  "0% is the same picture. How far pixels differ is no measure of what is gone: look at them.":
    "0% 表示图像相同。像素相差多少不能说明什么消失了：请看图像。",
  "^{DRAWN} pictures drawn, {THERE} were there, in the output folder: ":
    "画了 {DRAWN} 幅图像，{THERE} 幅已有，位于输出文件夹：",
  "^picture {PICTURE} of {COUNT}$": "第 {PICTURE} 幅，共 {COUNT} 幅",
};
const LANGUAGES = /** @type {Record<string, Record<string, string>>} */ ({ zh: CHINESE });
/** Names in whose place the server's own words may stand; in all others' it is people's. */
const PARTS = [
  ...["acts", "concept", "damaged", "name", "passes", "resumed", "role"],
  ...["share", "trainings", "why", "work"],
];
const ANCHORS = /^\^|\$$/g;
const NUMBER = "[-+]?\\d[\\d.,e+-]*%?";
const LOSS = /[a-z]+( [a-z]+)*(?= [-\d])/g; // the name before a number

/** The longest first, for the beginning of a sentence may be a sentence as well. */
const PATTERNS = Object.fromEntries(
  Object.entries(LANGUAGES).map(([name, table]) => [
    name,
    Object.entries(table)
      .sort(([one], [other]) => lengthOf(other) - lengthOf(one))
      .map(([text, translation]) => ({ pattern: patternOf(text), translation })),
  ]),
);

/**
 * A text of the server in the page's language. What is in no table, as what people wrote, stays.
 * @param {string} text
 * @returns {string}
 */
export function told(text) {
  const sentences = PATTERNS[language()] ?? [];
  return sentences.reduce(
    (now, { pattern, translation }) =>
      now.replace(pattern, (...found) => filled(translation, translated(found.at(-1)))),
    text,
  );
}

/**
 * What stands in place of {names}, in the page's language.
 * @param {Record<string, string> | string} values by name; of a sentence without any, the text
 */
function translated(values) {
  const named = typeof values === "string" ? {} : values;
  return Object.fromEntries(
    Object.entries(named).map(([name, value]) => [name, partOf(name, value)]),
  );
}

/**
 * @param {string} name
 * @param {string} value
 */
function partOf(name, value) {
  if (name === "losses") return value.replace(LOSS, (loss) => said(loss));
  return PARTS.includes(name) ? told(value) : value;
}

/** @param {string} text of a table */
function lengthOf(text) {
  return text.replace(ANCHORS, "").length;
}

/** @param {string} text of a table */
function patternOf(text) {
  const pattern = text
    .replace(ANCHORS, "")
    .replace(/[.()]/g, "\\$&")
    .replace(/^'(?=\{)/, "(?<!\\S)'") // the quote that begins a word, not one within
    .replace(/\{([a-z]+)\}/g, "(?<$1>.*?)")
    .replace(/\{([A-Z]+)\}/g, `(?<$1>${NUMBER})`)
    .replace(/\.$/, ".(?: |$)"); // no space after a Chinese full stop
  const [begin, end] = [text.startsWith("^") ? "^(?! )" : "", text.endsWith("$") ? "$" : ""];
  return new RegExp(`${begin}${pattern}${end}`, "gm");
}
