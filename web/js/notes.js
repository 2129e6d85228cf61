/** Notes and titles of our templates, in the language that ComfyUI's settings name. */

import { app } from "../../../scripts/app.js";
import { language } from "./words.js";

/**
 * By the English note's first line. The digest is that of the whole note: one that somebody has
 * rewritten stays as it is.
 * @typedef {Record<string, {digest: string, text: string}>} Notes
 */

/** @type {Notes} */
const CHINESE_NOTES = {
  "# Apply an erasure, and compare strengths": {
    digest: "87245152",
    text: `# 应用擦除，并比较强度

按**运行**。先训练一个 LoRA，再以强度 0、0.5 和 1 加到模型上三次。三次用同一个种子画同一条提示词。

已经有文件时，去掉*擦除概念*，在每个*应用擦除 LoRA* 上选择**文件**。用它的**开始百分比**和**结束百分比**，可以只在采样的一段中擦除。
`,
  },
  "# Check an erasure": {
    digest: "27e75781",
    text: `# 检查擦除效果

按**运行**。**擦除报告**用相同的种子，把每条提示词在擦除前后各画四次。

- **应改变的提示词**：概念，以及概念与另一样东西在一起。它消失了吗？原处出现的东西完整吗？
- **应保留的提示词**：先是与概念最像的东西，再是其他东西。它们还和以前一样吗？

*像素相差 7%* 说明图像变了多少，不说明概念是否消失：请看图像。

检查已有的 LoRA：去掉*擦除概念*，在*应用擦除 LoRA* 上选择它的**文件**。
`,
  },
  "# Erase an artist's style": {
    digest: "7ea90561",
    text: `# 擦除艺术家的风格

按**运行**。gallery 的微型模型会忘掉 *ink* 的画法：猫和吉他还在，换成另一位画师来画。

- **概念**：艺术家的名字，写法与提示词中相同。*类别*为 **style**。
- **替换为**：改由谁的手法来画。

用您自己的模型：像模板 **your_own_model** 那样，去掉*加载微型模型（演示）*，改用您的模型的加载节点。例如概念写 *Vincent van Gogh*，替换为 *photo*。这些词还没有在任何模型上试过：请告诉我们效果如何。

最后看看**擦除报告**的前后两半；在后一半放其他画家：他们最先受影响。
`,
  },
  "# Erase a logo from T-shirts": {
    digest: "e1733ee5",
    text: `# 擦除 T 恤上的标志

按**运行**。gallery 的微型模型会忘掉 *tux* 标志：T 恤、杯子和招牌还在，其他标志也还在。

- **概念**：品牌的名称，写法与提示词中相同。*类别*为 **object**。
- **替换为**：原处改印什么。

用您自己的模型：像模板 **your_own_model** 那样，去掉*加载微型模型（演示）*，改用您的模型的加载节点。例如概念写 *logo*，同义词写 *brand logo* 和 *emblem*，**替换为**留空（直接去掉这些词），保留写 *a T-shirt with a heart printed on it*。这些词还没有在任何模型上试过：请告诉我们效果如何。

最后看看**擦除报告**的前后两半。
`,
  },
  "# Erase an object": {
    digest: "7e4f09f4",
    text: `# 擦除物体

按**运行**。本节点包附带的微型 Flux 会在约一分钟内忘掉 *star*，任何机器都能运行；擦除前后用相同的种子画图。

1. **擦除概念（训练 LoRA）** 训练一个小型 LoRA，同时显示曲线和图像。要擦除别的东西，请修改*概念*和*类别*。
2. **应用擦除 LoRA** 把它加到模型上；*强度*为 0 时什么也不擦除。
3. 下方：模型看向哪里。右侧：一条含概念的提示词和一条应保留的提示词所画的图像。

用您自己的模型，请打开模板 **your_own_model**。
`,
  },
  "# Erase a person": {
    digest: "c542f4a4",
    text: `# 擦除人物

按**运行**。gallery 的微型模型会忘掉 *Mira*：其他人物还在。

- **概念**：人物的名字，写法与提示词中相同。*类别*为 **person**。
- **替换为**：改为出现谁。
- **同义词**：简称，如果有的话。
- **保留**：与此人相似的人物：他们最先受影响。

用您自己的模型：像模板 **your_own_model** 那样，去掉*加载微型模型（演示）*，改用您的模型的加载节点。例如概念写 *Albert Einstein*，同义词写 *Einstein*，替换为 *an old man*，保留写 *Marie Curie* 和 *Isaac Newton*，每行一个。这些词还没有在任何模型上试过：请告诉我们效果如何。

最后看看**擦除报告**的前后两半。
`,
  },
  "# Erase a style": {
    digest: "f808a45c",
    text: `# 擦除风格

按**运行**。微型 Flux 会忘掉 *striped*：形状还在，条纹消失。

擦除风格时，*类别*选 **style**，**替换为**写改成什么样子：这里是 *dotted*；对绘画风格，*photo* 是不错的选择。

**擦除报告**用相同的种子画出应改变的提示词和应保留的提示词，并说明每幅图改变了多少。
`,
  },
  "# Look inside with attention maps": {
    digest: "9fe893bd",
    text: `# 用注意力图查看内部

按**运行**。右侧的两个节点在模型画图时查看它的内部，擦除前后各一次。

- **training signal**：对每个词的注意力。配方 *paper* 会压低概念的注意力。
- **saliency**：每处属于哪个词。东西在哪里？

指向节点上的一个词，就能看到它的图叠加在图像上；拖动滑块可以查看各采样步。

下方在您自己的采样器画图时查看：**观察注意力（采样前）** 接在采样器之前，**显示观察到的注意力（采样后）** 接在之后。
`,
  },
  "# Several concepts at once": {
    digest: "6a5547a6",
    text: `# 同时擦除多个概念

按**运行**。每个**概念计划**显示用什么来训练一个概念：可以阅读和修改。第二个与第一个*合并*，所以一个 LoRA 会同时擦除 *star* 和 *striped*。要擦除更多概念，就再合并几个。

已经有几个 LoRA？**合并擦除 LoRA** 能把几个文件合成一个。
`,
  },
  "# Your own model": {
    digest: "9e03cfdf",
    text: `# 您自己的模型

文件齐备后按**运行**。然后修改*概念*、*类别*和*替换为*。

下方的加载节点需要 FLUX.1 [dev] 的文件。把您的文件放到那里，或者选择已有的：

| 文件 | \`ComfyUI/models\` 中的文件夹 |
|---|---|
| \`flux1-dev.safetensors\` | \`diffusion_models\` |
| \`clip_l.safetensors\` | \`text_encoders\` |
| \`t5xxl_fp16.safetensors\` | \`text_encoders\` |
| \`ae.safetensors\` | \`vae\` |

其他模型：

- Stable Diffusion 3.5：*TripleCLIPLoader* 或 *Load Checkpoint*；KSampler 的 cfg 用 4.5。
- Chroma、Qwen-Image：*Load CLIP*，选择对应的类型；cfg 用 4。
- Z-Image、Lumina 2：*Load CLIP*，类型 lumina2；cfg 用 4。
- FLUX.2：*Load CLIP*，类型 flux2，再用 *Empty Flux 2 Latent*；[klein] 的 cfg 用 4。
- 经蒸馏的模型（如 Turbo）：cfg 用 1。
- GGUF 和 fp8：您平时使用的加载节点。

显存不多？请选择配方 **instant**，或较小的*分辨率*。节点会在开始前说明需要多少。
`,
  },
};

/** @type {Record<string, string>} of groups, then of nodes */
const CHINESE_TITLES = {
  "Compare strengths": "比较强度",
  "Check an erasure": "检查擦除效果",
  "Erase an artist's style": "擦除艺术家的风格",
  "Erase a logo from T-shirts": "擦除 T 恤上的标志",
  "1. Erase": "1. 擦除",
  "2. Where the model looks": "2. 模型看向哪里",
  "3. A prompt that names the concept, and one that should stay":
    "3. 一条含概念的提示词，一条应保留的提示词",
  "Erase a person": "擦除人物",
  "Erase a style": "擦除风格",
  "Look inside": "查看内部",
  "Look while samplers draw": "采样器画图时查看",
  "Several concepts": "多个概念",
  "1. Load a model, and erase": "1. 加载模型并擦除",
  "2. Draw with it": "2. 用它画图",

  Prompt: "提示词",
  Nothing: "空提示词",
  "Strength 0": "强度 0",
  "Strength 0.5": "强度 0.5",
  "Strength 1": "强度 1",
  "Before and after": "之前和之后",
  Report: "报告",
  Attention: "注意力",
  "Prompt: concept": "提示词：概念",
  "Prompt: keep": "提示词：保留",
  "Draw concept, before": "画概念，擦除前",
  "Concept before": "概念，擦除前",
  "Draw concept, after": "画概念，擦除后",
  "Concept after": "概念，擦除后",
  "Draw keep, before": "画要保留的，擦除前",
  "Keep before": "要保留的，擦除前",
  "Draw keep, after": "画要保留的，擦除后",
  "Keep after": "要保留的，擦除后",
  "Style report": "风格报告",
  "Training signal": "视图：training signal",
  Saliency: "视图：saliency",
  Watched: "观察到的注意力",
  "Several report": "多个概念的报告",
  "Without the concept": "不含该概念",
};

const NOTES = /** @type {Record<string, Notes>} */ ({ zh: CHINESE_NOTES });
const TITLES = /** @type {Record<string, Record<string, string>>} */ ({ zh: CHINESE_TITLES });
const NOTE = "MarkdownNote";

app.registerExtension({
  name: "eraseanything.notes",
  beforeConfigureGraph(/** @type {any} */ workflow) {
    if (language() in NOTES) translate(workflow, NOTES[language()], TITLES[language()]);
  },
});

/**
 * Changes notes that are ours word for word; titles, too, where there is such a note.
 * @param {any} workflow as it was saved
 * @param {Notes} notes
 * @param {Record<string, string>} titles
 */
function translate({ nodes = [], groups = [] }, notes, titles) {
  let ours = false; // titles of other workflows may be people's own
  for (const { type, widgets_values: values } of nodes) {
    if (type !== NOTE || !Array.isArray(values)) continue;
    const translated = noteIn(notes, values[0]);
    ours ||= translated !== values[0];
    values[0] = translated;
  }
  if (!ours) return;
  for (const each of [...groups, ...nodes]) {
    if (Object.hasOwn(titles, each.title)) each.title = titles[each.title];
  }
}

/**
 * @param {Notes} notes
 * @param {unknown} text of a note
 */
function noteIn(notes, text) {
  const [first] = String(text).split("\n");
  const known = Object.hasOwn(notes, first) ? notes[first] : undefined;
  return known?.digest === digestOf(String(text)) ? known.text : text;
}

/**
 * FNV-1a of a text's letters: the page has no digest of its own where it is not served by https.
 * @param {string} text
 */
function digestOf(text) {
  const letters = [...text].map((letter) => letter.codePointAt(0) ?? 0);
  const hash = letters.reduce((now, letter) => Math.imul(now ^ letter, 0x01000193), 0x811c9dc5);
  return (hash >>> 0).toString(16).padStart(8, "0");
}
