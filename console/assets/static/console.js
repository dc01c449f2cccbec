// What pages of the console do beyond forms and links. Every page works without this file: it saves round trips, copies
// texts, shows photos before they are sent, and asks authenticators. Texts come from the page, in its language, as data
// attributes of the body (data-text-…) or of the element itself; nothing from the network is ever used as markup.
'use strict';
(() => {
  document.documentElement.classList.add('js');

  const text = (name) => document.body.dataset['text' + name[0].toUpperCase() + name.slice(1)] ?? '';

  // make builds an element from a tag, properties, and children or strings.
  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // iconOf returns a copy of an icon that the page brought along, in a template element with the id icon-NAME.
  function iconOf(name) {
    const template = document.getElementById('icon-' + name);
    return template ? template.content.cloneNode(true) : document.createDocumentFragment();
  }

  // say lets screen readers announce something short.
  let speaker;
  function say(sentence) {
    if (!speaker) {
      speaker = make('div', { className: 'visually-hidden' });
      speaker.setAttribute('role', 'status');
      document.body.append(speaker);
    }
    speaker.textContent = '';
    requestAnimationFrame(() => { speaker.textContent = sentence; });
  }

  // on handles events of all elements that match, also of those that come later.
  function on(event, selector, handle) {
    document.addEventListener(event, (e) => {
      const element = e.target instanceof Element ? e.target.closest(selector) : null;
      if (element) handle(element, e);
    });
  }

  // --- Copy: a button with data-copy ---

  async function copyText(value) {
    try {
      await navigator.clipboard.writeText(value);
      return true;
    } catch {
      const area = make('textarea', { value, className: 'visually-hidden' });
      document.body.append(area);
      area.select();
      const copied = document.execCommand('copy'); // where the permission for the clipboard is missing
      area.remove();
      return copied;
    }
  }

  on('click', '[data-copy]', async (button) => {
    const copied = await copyText(button.dataset.copy);
    button.focus();
    say(text(copied ? 'copied' : 'notcopied'));
    const label = button.querySelector('span');
    const icon = button.querySelector('svg');
    const sign = iconOf(copied ? 'ok' : 'bad').firstElementChild;
    if (button.dataset.shows || !icon || !sign) return;
    button.dataset.shows = 'result';
    const before = label?.textContent;
    icon.replaceWith(sign);
    if (label) label.textContent = text(copied ? 'copied' : 'notcopied');
    setTimeout(() => {
      sign.replaceWith(icon);
      if (label) label.textContent = before;
      delete button.dataset.shows;
    }, 2000);
  });

  // --- Pages that ask again: what is being pressed stays until it is let go, or the click would be lost ---

  let pressed = false;
  addEventListener('pointerdown', () => { pressed = true; }, true);
  for (const event of ['pointerup', 'pointercancel']) {
    addEventListener(event, () => setTimeout(() => { pressed = false; }), true); // the click follows
  }
  document.addEventListener('htmx:beforeSwap', (e) => { if (pressed) e.detail.shouldSwap = false; });

  // --- Filter: an input with data-filter="id of a table" hides the rows that do not have its words ---

  on('input', 'input[data-filter]', (input) => {
    const words = input.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of document.getElementById(input.dataset.filter)?.tBodies[0]?.rows ?? []) {
      const content = row.textContent.toLocaleLowerCase();
      row.hidden = !words.every((word) => content.includes(word));
      if (!row.hidden) shown++;
    }
    say(String(shown));
  });

  // --- Photos: preview, drop, paste and camera all fill an ordinary file input ---

  function setFiles(input, files) {
    const transfer = new DataTransfer();
    for (const file of input.multiple ? files : files.slice(0, 1)) transfer.items.add(file);
    input.files = transfer.files;
    input.dispatchEvent(new Event('change', { bubbles: true }));
  }

  const inputOf = (element) => element.querySelector('input[type="file"]');

  on('change', 'input[type="file"][data-preview]', (input) => {
    const frame = document.getElementById(input.dataset.preview);
    if (!frame) return;
    for (const image of frame.querySelectorAll('img')) URL.revokeObjectURL(image.src);
    frame.replaceChildren();
    const file = input.files[0];
    frame.hidden = !file;
    if (!file) return;
    const image = make('img', { alt: file.name });
    image.addEventListener('error', () => { frame.hidden = true; }); // a format that this browser cannot show
    image.src = URL.createObjectURL(file);
    frame.append(image);
  });

  for (const event of ['dragenter', 'dragover']) {
    on(event, '.drop', (zone, e) => {
      if (!e.dataTransfer?.types.includes('Files')) return;
      e.preventDefault();
      e.dataTransfer.dropEffect = 'copy';
      zone.classList.add('over');
    });
  }
  on('dragleave', '.drop', (zone, e) => {
    if (!zone.contains(e.relatedTarget)) zone.classList.remove('over');
  });
  on('drop', '.drop', (zone, e) => {
    e.preventDefault();
    zone.classList.remove('over');
    const input = inputOf(zone);
    if (input && e.dataTransfer.files.length) setFiles(input, [...e.dataTransfer.files]);
  });
  document.addEventListener('paste', (e) => {
    const files = [...(e.clipboardData?.files ?? [])];
    const zone = e.target instanceof Element && e.target.closest('.drop') || document.querySelector('.drop');
    const input = zone && inputOf(zone);
    if (!input || files.length === 0) return;
    e.preventDefault();
    setFiles(input, files);
  });

  // A button with data-camera="id of a file input" shows the camera in place of itself.
  on('click', '[data-camera]', async (button) => {
    const input = document.getElementById(button.dataset.camera);
    if (!input) return;
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'user', width: { ideal: 1280 } } });
    } catch {
      button.after(make('p', { className: 'error' }, text('nocamera')));
      button.disabled = true;
      return;
    }
    const video = make('video', { autoplay: true, playsInline: true, muted: true, srcObject: stream });
    const take = make('button', { type: 'button', className: 'primary' }, iconOf('camera'), make('span', {}, text('take')));
    const cancel = make('button', { type: 'button' }, make('span', {}, text('cancel')));
    const panel = make('div', { className: 'camera' }, video, make('div', { className: 'actions' }, take, cancel));
    const close = () => {
      for (const track of stream.getTracks()) track.stop();
      panel.replaceWith(button);
      button.focus();
    };
    cancel.addEventListener('click', close);
    take.addEventListener('click', () => {
      const canvas = make('canvas', { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext('2d').drawImage(video, 0, 0);
      canvas.toBlob((blob) => {
        close();
        if (blob) setFiles(input, [new File([blob], 'camera.jpg', { type: 'image/jpeg' })]);
      }, 'image/jpeg', 0.92);
    });
    button.replaceWith(panel);
    take.focus();
  });

  // --- Upload: form[data-upload] sends the files of its input one by one, each with the other fields ---
  //
  // The answer to each is a page; its alert, or the error beside a field, is the result. data-upload may name an element
  // of the page that changes with the uploads: at the end the newest page's takes its place.

  function send(form, input, file, progress) {
    return new Promise((resolve) => {
      const data = new FormData(form);
      data.delete(input.name);
      data.append(input.name, file, file.name);
      const request = new XMLHttpRequest();
      request.open('POST', form.action);
      request.setRequestHeader('Accept', 'text/html');
      request.upload.addEventListener('progress', (e) => {
        if (e.lengthComputable) { progress.max = e.total; progress.value = e.loaded; }
      });
      request.addEventListener('load', () => {
        const page = new DOMParser().parseFromString(request.responseText, 'text/html');
        const found = page.querySelector('main [data-result], main .alert p, main .field .error, main .alert');
        const good = request.status < 400;
        resolve({ good, page, sentence: found?.textContent.trim() || text(good ? 'sent' : 'notsent') });
      });
      request.addEventListener('error', () => resolve({ good: false, sentence: text('notsent') }));
      request.send(data);
    });
  }

  on('submit', 'form[data-upload]', async (form, e) => {
    const input = inputOf(form);
    const files = [...(input?.files ?? [])];
    if (files.length === 0) return; // the browser says that the field is required
    e.preventDefault();
    const buttons = [...form.querySelectorAll('button')].filter((button) => !button.disabled);
    for (const button of buttons) button.disabled = true;
    form.setAttribute('aria-busy', 'true');
    let results = form.querySelector('.uploads');
    if (!results) {
      results = make('ul', { className: 'uploads' });
      form.append(results);
    }
    results.replaceChildren();
    let newest = null;
    let good = 0;
    for (const file of files) {
      const progress = make('progress', { max: 1, value: 0 });
      progress.setAttribute('aria-label', file.name);
      const outcome = make('span', { className: 'result' }, progress);
      const item = make('li', {}, make('span', { className: 'name' }, file.name), outcome);
      results.append(item);
      const result = await send(form, input, file, progress);
      item.className = result.good ? 'ok' : 'bad';
      item.prepend(iconOf(item.className));
      outcome.textContent = result.sentence;
      if (result.good) { good++; newest = result.page; }
    }
    input.value = '';
    input.dispatchEvent(new Event('change', { bubbles: true }));
    form.removeAttribute('aria-busy');
    for (const button of buttons) button.disabled = false;
    const changed = form.dataset.upload && document.getElementById(form.dataset.upload);
    const replacement = changed && newest?.getElementById(form.dataset.upload);
    if (replacement) changed.replaceWith(document.adoptNode(replacement));
    say(`${good}/${files.length}`);
  });

  // --- Passkeys: form[data-passkey="create" or "get"] ---
  //
  // The options are JSON in data-options, or come from data-options-url by POST with the form's token. What the
  // authenticator says goes into the field "credential", and the form is sent as any other.

  function fromBase64(value) {
    const padded = value.replaceAll('-', '+').replaceAll('_', '/');
    return Uint8Array.from(atob(padded), (c) => c.charCodeAt(0)).buffer;
  }

  function toBase64(buffer) {
    const binary = String.fromCharCode(...new Uint8Array(buffer));
    return btoa(binary).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
  }

  const decodeIds = (list) => list?.map((c) => ({ ...c, id: fromBase64(c.id) }));

  // parseOptions does what PublicKeyCredential.parse…OptionsFromJSON do, for browsers that lack them.
  function parseOptions(kind, json) {
    const parse = globalThis.PublicKeyCredential?.[kind === 'create' ? 'parseCreationOptionsFromJSON' : 'parseRequestOptionsFromJSON'];
    if (parse) return parse.call(PublicKeyCredential, json);
    const options = { ...json, challenge: fromBase64(json.challenge) };
    if (json.user) options.user = { ...json.user, id: fromBase64(json.user.id) };
    if (json.excludeCredentials) options.excludeCredentials = decodeIds(json.excludeCredentials);
    if (json.allowCredentials) options.allowCredentials = decodeIds(json.allowCredentials);
    return options;
  }

  // writeCredential does what PublicKeyCredential.toJSON does, for browsers that lack it.
  function writeCredential(credential) {
    if (credential.toJSON) return credential.toJSON();
    const { response } = credential;
    const json = { clientDataJSON: toBase64(response.clientDataJSON) };
    for (const name of ['attestationObject', 'authenticatorData', 'signature', 'userHandle']) {
      if (response[name]) json[name] = toBase64(response[name]);
    }
    if (response.getTransports) json.transports = response.getTransports();
    return {
      id: credential.id, rawId: toBase64(credential.rawId), type: credential.type,
      authenticatorAttachment: credential.authenticatorAttachment ?? undefined,
      clientExtensionResults: credential.getClientExtensionResults(), response: json,
    };
  }

  async function passkeyOptions(form) {
    if (form.dataset.options) return JSON.parse(form.dataset.options);
    const answer = await fetch(form.dataset.optionsUrl, {
      method: 'POST', headers: { Accept: 'application/json' }, credentials: 'same-origin',
      body: new URLSearchParams(new FormData(form)),
    });
    if (!answer.ok) throw new Error(`options: status ${answer.status}`);
    return answer.json();
  }

  function problem(form, sentence) {
    let place = form.querySelector('.alert.bad');
    if (!place) {
      place = make('p', { className: 'alert bad' });
      place.setAttribute('role', 'alert');
      form.prepend(place);
    }
    place.replaceChildren(iconOf('bad'), make('span', {}, sentence));
  }

  on('submit', 'form[data-passkey]', async (form, e) => {
    const field = form.elements.namedItem('credential');
    if (!field || field.value) return;
    e.preventDefault();
    if (!globalThis.PublicKeyCredential) {
      problem(form, text('nopasskeys'));
      return;
    }
    try {
      const json = await passkeyOptions(form);
      const publicKey = parseOptions(form.dataset.passkey, json.publicKey ?? json);
      const credential = form.dataset.passkey === 'create' ?
        await navigator.credentials.create({ publicKey }) : await navigator.credentials.get({ publicKey });
      field.value = JSON.stringify(writeCredential(credential));
    } catch (err) {
      problem(form, text(err instanceof DOMException ? 'passkeycancelled' : 'passkeyfailed'));
      return;
    }
    form.requestSubmit();
  });
})();
