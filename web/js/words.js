/** The words of our views, in the language that ComfyUI's settings name. */

import { app } from "../../../scripts/app.js";

/** @type {Record<string, string>} */
const CHINESE = {
  Loading: "正在加载",
  "Drawing what to learn from": "正在绘制学习用的图像",
  "Working out the change": "正在计算改动",
  "Change worked out": "已算出改动",
  "Closing ways around it": "正在堵住绕过的途径",
  Training: "训练",
  Done: "完成",
  Cancelled: "已取消",
  Failed: "失败",
  "Losses and previews appear here while it trains.": "训练时，损失曲线和预览会显示在这里。",
  "to erase": "要擦除",
  "to keep": "要保留",
  before: "之前",
  after: "之后",
  solved: "求解后",
  replacement: "替换为",
  "step {step}": "第 {step} 步",
  "step {step} of {total}": "第 {step} 步，共 {total} 步",
  "all {total} steps": "全部 {total} 步",
  "{time} left": "还剩 {time}",
  "{seconds} s": "{seconds} 秒",
  "{minutes} min": "{minutes} 分钟",
  "{hours} h {minutes} min": "{hours} 小时 {minutes} 分钟",
  "pixels differ by {percent}%": "像素相差 {percent}%",
  erase: "擦除",
  attention: "注意力",
  keep: "保留",
  contrast: "对比",
  pictures: "图像",
  "keep weight": "保留权重",
  holds: "抵挡",
  "Attention maps": "注意力图",
  "Words and their maps appear here when the node has run.": "节点运行后，词和它们的注意力图会显示在这里。",
  Words: "词",
  Step: "步",
  "over the picture": "叠加在图像上",
  difference: "差异",
  "{percent} or more": "{percent} 或更多",
  gone: "消失",
  "has come": "新出现",
  "against {words}": "对比 {words}",
  Result: "结果",
  "Edit this plan": "修改此计划",
};
const LANGUAGES = /** @type {Record<string, Record<string, string>>} */ ({ zh: CHINESE });

/**
 * A text in the page's language; one that is not in its table stays English.
 * @param {string} text with {names} of values
 * @param {Record<string, any>} [values]
 */
export function said(text, values = {}) {
  return filled(LANGUAGES[language()]?.[text] ?? text, values);
}

/** The page's language, as its settings name it. */
export function language() {
  return String(app.extensionManager?.setting?.get("Comfy.Locale"));
}

/**
 * A text with values in the places of their {names}.
 * @param {string} text
 * @param {Record<string, any>} values
 */
export function filled(text, values) {
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}
